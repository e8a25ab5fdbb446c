"""What is known of a slide, a tile file, a model or a result, without working on it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_anomaly.core.errors import ModelError, UsageError, WsiAnomalyError
from wsi_anomaly.core.wording import area_text, counted

MAGNIFICATIONS = (40, 20, 10)


@dataclass
class Facts:
    """Facts of one thing.

    Attributes
    ----------
    kind, path
        What it is, and where.
    values
        For programs: plain values.
    rows
        For people: pairs of a name and a text.
    details
        More of them, for who asks for more.
    """

    kind: str
    path: Path
    values: dict[str, Any]
    rows: list[tuple[str, str]] = field(default_factory=list)
    details: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"kind": self.kind, "path": str(self.path), **self.values}


def facts_of(path: Path, mpp: float | None = None, scene: int | None = None) -> Facts:
    """Find out what a path is, and its facts.

    Parameters
    ----------
    path
        A slide, a tile file, a model folder, a folder of results, or one result.
    mpp
        Micrometres per pixel of a slide, over what it says.
    scene
        Which of several images of a slide's file, from 1; None: the largest.

    Raises
    ------
    WsiAnomalyError
        It is none of these, or damaged.
    """
    from wsi_anomaly.core.remote import is_remote

    if is_remote(path) or path.is_file():
        return tile_file_facts(path) if path.suffix == ".h5" else slide_facts(path, mpp, scene)
    if not path.is_dir():
        raise UsageError(f"{path} does not exist; give a slide, a tile file, a model or results.")
    if (path / "model.json").exists():
        return model_facts(path)
    if (path / "summary.json").exists():
        return result_facts(path)
    if any(path.glob("*/summary.json")):
        return results_facts(path)
    if any(path.glob("*.h5")):
        return tile_folder_facts(path)
    return slide_folder_facts(path, mpp, scene)


def slide_folder_facts(path: Path, mpp: float | None = None, scene: int | None = None) -> Facts:
    """Facts of a folder of slides, a line each."""
    from wsi_anomaly.slides import find_slides

    slides, rows = [], []
    for file in find_slides([path]):
        try:
            facts = slide_facts(file, mpp, scene)
        except WsiAnomalyError as error:
            slides.append({"path": str(file), "error": str(error)})
            rows.append((file.name, f"cannot be used: {error}"))
            continue
        slides.append(facts.to_dict())
        known = dict(facts.rows)
        serves = f", serves {known['serves']}" if "serves" in known else ""
        rows.append((file.name, f"{known['size']}, {known['pixel size']}{serves}"))
    return Facts("folder of slides", path, {"slides": slides}, rows)


def slide_facts(path: Path, mpp: float | None = None, scene: int | None = None) -> Facts:
    """Facts of a slide; one without a pixel size is shown too, with the remedy."""
    from wsi_anomaly.core.errors import MissingMppError
    from wsi_anomaly.core.magnification import served
    from wsi_anomaly.core.remote import is_remote
    from wsi_anomaly.slides import open_slide

    with open_slide(path, mpp=mpp, require_mpp=False, scene=scene) as slide:
        values: dict[str, Any] = {
            "size_px": [slide.width, slide.height],
            "levels": [
                {"size_px": list(size), "downsample": downsample}
                for size, downsample in zip(
                    slide.level_dimensions, slide.level_downsamples, strict=True
                )
            ],
            "bounds": [slide.bounds.x, slide.bounds.y, slide.bounds.width, slide.bounds.height],
            "objective_power": slide.objective_power,
            "vendor": None if is_remote(path) else _vendor(path),
            "backend": slide.backend,
            "left_out": list(slide.left_out),
            "file_bytes": None if is_remote(path) else path.stat().st_size,
        }
        cropped = (slide.bounds.width, slide.bounds.height) != (slide.width, slide.height)
        rows = [("size", f"{slide.width:,} x {slide.height:,} px")]
        try:
            found = slide.mpp
            serves = served(slide.finest_mpp, MAGNIFICATIONS)
            values |= {
                "mpp": [found.x, found.y],
                "mpp_source": found.source,
                "size_mm": [slide.width * found.x / 1000, slide.height * found.y / 1000],
                "magnifications": list(serves),
            }
            rows[0] = (
                "size",
                f"{rows[0][1]}  ({values['size_mm'][0]:.1f} x {values['size_mm'][1]:.1f} mm)",
            )
            pixel = f"{found.x:.4g}" if found.x == found.y else f"{found.x:.4g} x {found.y:.4g}"
            rows.append(("pixel size", f"{pixel} um  (from {found.source})"))
            served_text = ", ".join(f"{m}x" for m in serves)
            rows.append(("serves", served_text or "nothing: too coarse even for 10x (1.2 um)"))
        except MissingMppError:
            values |= {"mpp": None, "mpp_source": None, "size_mm": None, "magnifications": []}
            problem = slide.info.mpp_problem
            values["mpp_problem"] = problem
            unknown = f"not used: the file says {problem}" if problem else "unknown"
            rows.append(("pixel size", f"{unknown}: give micrometres per pixel with --mpp"))
        levels = ", ".join(f"{d:.4g}" for d in slide.level_downsamples)
        rows.append(("levels", f"{len(slide.level_downsamples)}  (downsamples {levels})"))
        if cropped:
            b = slide.bounds
            rows.append(("scanned area", f"{b.width:,} x {b.height:,} px at ({b.x:,}, {b.y:,})"))
        if slide.objective_power:
            rows.append(("objective", f"{slide.objective_power:g}x, as the scanner noted it"))
        vendor = values["vendor"]
        rows.append(("format", f"{vendor or 'TIFF'}, read by the {slide.backend} reader"))
        rows += [("looked at", text) for text in slide.left_out]
        if values["file_bytes"] is not None:
            rows.append(("file", megabytes(values["file_bytes"])))
        details = sorted((name, " ".join(text.split())) for name, text in slide.properties.items())
    return Facts("slide", path, values, rows, details)


def _vendor(path: Path) -> str | None:
    """Name of the format as OpenSlide knows it."""
    import openslide

    vendor = openslide.OpenSlide.detect_format(path)
    return None if vendor is None else str(vendor)


def tile_file_facts(path: Path) -> Facts:
    """Facts of a tile file."""
    import numpy as np

    from wsi_anomaly.tiles import TileStore
    from wsi_anomaly.tiles.fields import STORED

    store = TileStore.open(path)
    counts = {s.name.lower(): int((store.status == s).sum()) for s in STORED}
    found = {name: count for name, count in counts.items() if count}
    sizes = {m: store.tile_side(m) for m in store.magnifications}
    values: dict[str, Any] = {
        "slide": store.slide_name,
        "slide_path": str(store.slide_path),
        "fingerprint": store.fingerprint,
        "case": store.case,
        "tiles": len(store),
        "tile_side_px": {f"{m}x": side for m, side in sizes.items()},
        "status": counts,
        "mpp": [store.mpp.x, store.mpp.y],
        "mpp_source": store.mpp.source,
        "stain": store.preprocessing.stain,
        "stain_matrix": None if store.stain is None else np.asarray(store.stain.matrix).tolist(),
        "config": store.config,
        "config_hash": store.config_hash,
        "file_bytes": path.stat().st_size,
    }
    rows = [
        ("slide", f"{store.slide_name}  ({store.slide_path})"),
        ("case", store.case),
        ("tiles", f"{len(store):,}  ({', '.join(f'{n:,} {name}' for name, n in found.items())})"),
        ("magnifications", ", ".join(f"{m}x ({s} px)" for m, s in sizes.items())),
        ("pixel size", f"{store.mpp.x:.4g} um  (from {store.mpp.source})"),
        ("stain", store.preprocessing.stain),
    ]
    if store.stain is not None:
        for name, row in zip(("hematoxylin", "eosin"), store.stain.matrix, strict=True):
            rows.append((f"  {name}", "  ".join(f"{value:.3f}" for value in row)))
    if store.label is not None:
        labels = Counter(str(label) for label in store.label)
        values["labels"] = dict(labels)
        rows.append(("labels", ", ".join(f"{n:,} {name or '-'}" for name, n in labels.items())))
    shown = {k: v for k, v in store.config.items() if isinstance(v, str | int | float | bool)}
    rows.append(("made with", ", ".join(f"{k} {v}" for k, v in shown.items())))
    rows.append(("file", megabytes(values["file_bytes"])))
    return Facts("tile file", path, values, rows)


def tile_folder_facts(path: Path) -> Facts:
    """Facts of a folder of tile files."""
    from wsi_anomaly.tiles import TileStore, find_tile_files

    stores = [TileStore.open(file) for file in find_tile_files([path])]
    served = Counter(m for store in stores for m in store.magnifications)
    values: dict[str, Any] = {
        "tile_files": len(stores),
        "cases": len({store.case for store in stores}),
        "tiles": sum(len(store) for store in stores),
        "good_tiles": sum(int((store.status == 0).sum()) for store in stores),
        "tile_files_with": {f"{m}x": n for m, n in sorted(served.items())},
        "config_hashes": sorted({store.config_hash for store in stores}),
        "file_bytes": sum(store.path.stat().st_size for store in stores),
    }
    files = {m: counted(n, "file") for m, n in sorted(served.items())}
    rows = [
        ("tile files", f"{values['tile_files']:,} of {counted(values['cases'], 'case')}"),
        ("tiles", f"{values['tiles']:,}  ({values['good_tiles']:,} ok)"),
        ("magnifications", ", ".join(f"{m}x in {n}" for m, n in files.items())),
        ("files", megabytes(values["file_bytes"])),
    ]
    if len(values["config_hashes"]) > 1:
        rows.append(("note", "made with different options; run tile again before training"))
    return Facts("folder of tiles", path, values, rows)


def model_facts(path: Path) -> Facts:
    """Facts of a model folder; its numbers are checked, not loaded."""
    numbers = path / "model.safetensors"
    try:
        model = json.loads((path / "model.json").read_text(encoding="utf-8"))
        if model["format"] != "wsi-anomaly-model":
            raise ModelError(f"{path} holds a model of another program.")
        if hashlib.sha256(numbers.read_bytes()).hexdigest() != model["sha256"]:
            raise ModelError(
                f"{numbers} does not belong to its model.json, or is damaged; copy the whole "
                "folder again."
            )
        size = numbers.stat().st_size
        seen = Counter(str(part) for part in model["seen"].values())
        calibration = model["calibration"].get(model["primary"], {})
        cases = len({slide["case"] for slide in calibration.get("slides", ())})
        values: dict[str, Any] = {
            "name": model["name"],
            "version": model["version"],
            "magnification": model["magnification"],
            "tile_size": model["tile_size"],
            "features": model["features"]["network"],
            "methods": list(model["detectors"]),
            "primary": model["primary"],
            "stain": model["preprocessing"]["stain"],
            "calibration_cases": cases,
            "slides_seen": dict(seen),
            "domain": model["domain"],
            "provenance": model["provenance"],
            "file_bytes": size,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"The model in {path} is damaged ({reason}); copy it again, or train it anew."
        ) from error
    others = [name for name in values["methods"] if name != values["primary"]]
    beside = f", beside it {', '.join(others)}" if others else ""
    made = values["provenance"]
    rows = [
        ("name", str(values["name"])),
        ("looks at", f"{values['tile_size']} px at {values['magnification']}x"),
        ("method", f"{values['primary']}{beside}"),
        ("features", str(values["features"])),
        ("stain", str(values["stain"])),
        ("slides", ", ".join(f"{n} {part}" for part, n in seen.items()) or "none recorded"),
        ("reference", counted(cases, "normal case") if cases else "none: raw scores, no flags"),
    ]
    if "training_tiles" in made:
        rows.append(("learned from", counted(made["training_tiles"], "tile")))
    if "trained" in made:
        rows.append(("trained", f"{made['trained']} with {made.get('program', '?')}"))
    rows.append(("size", megabytes(size)))
    return Facts("model", path, values, rows)


def result_facts(path: Path) -> Facts:
    """Facts of one slide's result."""
    from wsi_anomaly.reports.report import above_normal
    from wsi_anomaly.results import read_summary

    summary = read_summary(path)
    if summary is None:
        raise WsiAnomalyError(f"{path} holds no result of wsi-anomaly; score the slide again.")
    try:
        flagged = summary["flagged"]
        percentile = summary["slide_percentile"]
        score = summary["slide_score"]
        slides = (summary["calibration"] or {}).get("slides")
        rank = "" if percentile is None else f"  ({above_normal(percentile, slides)})"
        rows = [
            ("slide", f"{summary['slide']['name']}  ({summary['slide']['path']})"),
            ("slide score", "none" if score is None else f"{score:.4g}{rank}"),
            (
                "flagged",
                f"{counted(flagged['regions'], 'region')}, {flagged['area_mm2']:.2f} mm2"
                if flagged["possible"]
                else f"not possible: {flagged['reason']}",
            ),
            ("tissue", f"{summary['tissue_mm2']:.1f} mm2"),
            ("not assessed", f"{area_text(summary['not_assessed_mm2'])} mm2"),
            ("model", f"{summary['model']['name']}"),
        ]
        rows += [("warning", str(text)) for text in summary["warnings"]]
        rows.append(("open", str(path / summary["files"]["report"])))
    except (KeyError, TypeError, ValueError) as error:
        raise WsiAnomalyError(
            f"{path / 'summary.json'} is damaged ({error}); score the slide again."
        ) from error
    return Facts("result", path, summary, rows)


def results_facts(path: Path) -> Facts:
    """Facts of a folder of results: the worklist in short."""
    from wsi_anomaly.reports.worklist_rows import collect

    found = collect(path)
    values: dict[str, Any] = {
        "slides": len(found),
        "with_flags": sum(1 for row in found if row.regions),
        "models": sorted({row.model for row in found if row.model}),
        "worklist": [
            {"rank": row.rank, "slide": row.slide, "slide_score": row.slide_score,
             "regions": row.regions, "not_assessed_mm2": row.not_assessed_mm2}
            for row in found
        ],
    }  # fmt: skip
    rows = [("slides", f"{len(found):,}, {values['with_flags']:,} with flagged regions")]
    for row in found[:5]:
        score = "-" if row.slide_score is None else f"{row.slide_score:.4g}"
        regions = counted(row.regions or 0, "region")
        rows.append((f"  {row.rank}.", f"{row.slide}  (score {score}, {regions})"))
    if len(found) > 5:
        rows.append(("", f"and {len(found) - 5:,} more"))
    rows.append(("open", str(path / "index.html")))
    return Facts("results", path, values, rows)


def megabytes(size: int) -> str:
    """Size of a file for people."""
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.2f} GB"
