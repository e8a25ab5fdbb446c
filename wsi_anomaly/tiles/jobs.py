"""Which slide becomes which tile file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_anomaly.core.errors import TileStoreError
from wsi_anomaly.core.files import fingerprint, output_name
from wsi_anomaly.tiles.inputs import check_files
from wsi_anomaly.tiles.store import SUFFIX, TileStore


@dataclass(frozen=True)
class Job:
    """One slide to tile.

    Attributes
    ----------
    slide
        Its file.
    name
        Name of its tile file, without suffix.
    mpp
        Micrometres per pixel that override what the file says.
    case
        Patient or animal; None: the name stands for it.
    tissue_mask, annotations
        Files that say where the tissue is, and where to cut; or folders of files named as the
        slides.
    backend
        Reader: "auto", "openslide" or "tiff".
    """

    slide: Path
    name: str
    mpp: float | None = None
    case: str | None = None
    tissue_mask: Path | None = None
    annotations: Path | None = None
    backend: str = "auto"


def plan_jobs(
    slides: Sequence[Path],
    out_dir: Path,
    *,
    mpp: float | None = None,
    mpp_of: Mapping[Path, float] | None = None,
    cases: Mapping[Path, str] | None = None,
    tissue_mask: Path | None = None,
    annotations: Path | None = None,
    backend: str = "auto",
) -> list[Job]:
    """Give every slide a tile file of its own and its options.

    A tile file bears its slide's name. Where two slides have one name, or another slide's tiles
    already stand under it, the fingerprint is added; a slide whose tiles exist keeps their name.

    Parameters
    ----------
    mpp, mpp_of
        Micrometres per pixel of every slide, and of single slides (these win).
    cases
        Case of each slide.
    tissue_mask, annotations, backend
        As in :class:`Job`.

    Raises
    ------
    UsageError
        A file would be taken for several slides, or does not exist.
    """
    for option, place in (("--tissue-mask", tissue_mask), ("--annotations", annotations)):
        if place is not None:
            check_files(option, place, slides)
    names = Counter(output_name(slide) for slide in slides)
    return [
        Job(
            slide,
            _name(slide, out_dir, alone=names[output_name(slide)] == 1),
            (mpp_of or {}).get(slide, mpp),
            (cases or {}).get(slide),
            tissue_mask,
            annotations,
            backend,
        )
        for slide in slides
    ]


def _name(slide: Path, out_dir: Path, *, alone: bool) -> str:
    name = output_name(slide)
    plain = out_dir / f"{name}{SUFFIX}"
    marked = any(out_dir.glob(f"*{SUFFIX}")) and _marked_exists(slide, out_dir)
    if alone and not marked and not plain.exists():
        return name
    try:
        mark = fingerprint(slide)
    except OSError:
        return name  # opening it will say what is wrong
    with_mark = f"{name}-{mark[:8]}"
    if (out_dir / f"{with_mark}{SUFFIX}").exists():
        return with_mark
    if plain.exists():
        try:
            store = TileStore.open(plain)
        except TileStoreError:
            return name if alone else with_mark
        same = store.fingerprint == mark or store.slide_path == slide.resolve()
        return name if same else with_mark
    return name if alone else with_mark


def _marked_exists(slide: Path, out_dir: Path) -> bool:
    start = f"{output_name(slide)}-"
    return any(
        file.name.startswith(start) and len(file.stem) == len(start) + 8
        for file in out_dir.glob(f"*{SUFFIX}")
    )
