"""Run benchmarks, keep their records, write the tables of the documents from them.

    python benchmarks/table.py --run all       # or names; on a quiet machine, about 40 minutes
    python benchmarks/table.py                 # the tables only

Records lie in docs/results/benchmarks. A table stands in docs/benchmarks.md or docs/cluster.md
between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDS = REPOSITORY / "docs" / "results" / "benchmarks"
PAGES = ("docs/benchmarks.md", "docs/cluster.md")
_MARK = re.compile(r"<!-- table (\w+) -->\n.*?<!-- end -->", re.DOTALL)
_GOAL = "goal"

RUNS = {
    "reading": "reading.py",
    "peers_tiling": "peers.py tiling",
    "peers_stain": "peers.py stain",
    "stain": "stain.py",
    "store": "store.py",
    "store_lossy": "lossy.py",
    "tiling_workers": "tiling.py workers",
    "tiling_dask": "tiling.py dask",
    "scale_sizes": "scale.py sizes",
    "scale_tiles": "scale.py tiles",
    "scoring": "scoring.py",
    "scoring_two_threads": "scoring.py --threads 2",
    "scoring_density": "scoring.py --density",
    "scoring_start": "scoring.py --start",
    "geojson": "geojson.py",
    "training": "training.py",
    "decoders": "decoders.py",
    "dense": "dense.py",
    "sizing": "sizing.py",
}

Record = dict[str, Any]

TILING_NAMES = {
    "ours": "wsi-anomaly",
    "hs2p_tifffile": "hs2p on tifffile",
    "hs2p_openslide": "hs2p on OpenSlide, its default",
    "lazyslide": "LazySlide / wsidata on OpenSlide",
    "lazyslide_fastslide": "the same on fastslide",
    "tiatoolbox": "TIAToolbox",
    "histolab": "histolab",
    "fastslide": "fastslide, a region a tile",
    "wsi_patching": "wsi-patching's reading",
    "eozin": "eozin, a region a tile",
    "microtome": "microtome-wsi, whole level",
    "bare_decode": "the bare JPEG decode",
}
STAIN_NAMES = {
    "ours_first_pass": "wsi-anomaly, first pass",
    "ours_table_warm": "wsi-anomaly, table warm",
    "log_exp_numpy": "one logarithm and one exponential a value (NumPy)",
    "tiatoolbox_fixed_matrix": "TIAToolbox, one matrix",
    "torch_staintools_macenko": "torch-staintools, Macenko, cached",
    "torch_staintools_vahadane": "torch-staintools, Vahadane, cached",
    "torchstain_macenko": "torchstain, Macenko (no cache)",
    "stainx_macenko": "stainx, Macenko (no cache)",
    "staintools_fixed_matrix": "StainTools, one matrix",
    "tiatoolbox_vahadane": "TIAToolbox, Vahadane of each tile",
    "staintools_default": "StainTools as documented",
}


def rows(head: Iterable[str], body: Iterable[Iterable[object]]) -> list[str]:
    """A Markdown table."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(str(cell) for cell in line) + " |" for line in body]


def few(value: float) -> str:
    """Three significant digits, thousands with commas."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def reading(r: Record) -> list[str]:
    """Fields against OpenSlide and the bare decoder."""
    names = {
        "resampled": ("from the 40x slide, resampled", 4, 3.2),
        "not_resampled": ("from a copy at 1 um, not resampled", "", 2.2),
    }
    return rows(
        ["", "tiles/s", "times OpenSlide per tile", _GOAL, "time per bare decode", _GOAL],
        (
            [
                text, few(r[key]["ours_tiles_per_s"]), few(r[key]["times_openslide_per_tile"]),
                first, few(r[key]["ours_per_bare_decode"]), second,
            ]
            for key, (text, first, second) in names.items()
        ),
    )  # fmt: skip


def peers_tiling(r: Record) -> list[str]:
    """Time of each peer as a multiple of ours."""
    cases = list(r["cases"].values())
    body = []
    for way, name in TILING_NAMES.items():
        if not any(way in case["ways"] or way in case["failed"] for case in cases):
            continue  # the record is of a run without it
        line = [name]
        for case in cases:
            if way not in case["ways"]:
                line.append("did not run")
                continue
            m = case["ways"][way]
            if way == "ours":
                line.append(f"1 ({m['tiles']:,} in {m['cpu_s']:.2g} s)")
            else:
                away = m.get("difference", 0)
                line.append(f"{m['times_ours']:.3g}" + (f" ({away:.1f})" if away else ""))
        body.append(line)
    versions = ", ".join(
        v for k, v in r["versions"].items() if k in {"hs2p", "lazyslide", "tiatoolbox", "histolab"}
    )
    return [*rows(["", *r["cases"]], body), "", f"Versions: {versions}."]


def peers_stain(r: Record) -> list[str]:
    """Pixels a second of each peer, and ours as a multiple."""
    body = []
    for way, name in STAIN_NAMES.items():
        line = [name]
        for case in r["cases"].values():
            if way not in case["ways"]:
                line += ["did not run", "", ""]
                continue
            m = case["ways"][way]
            times = ["", ""]
            if not way.startswith("ours"):
                times = [few(m["times_ours_first_pass"]), few(m["times_ours_table_warm"])]
            line += [few(m["MPixel_per_s"]), *times]
        body.append(line)
    head = [""]
    for case in r["cases"]:
        head += [f"{case}: MPixel/s", "times, first pass", "times, warm"]
    versions = ", ".join(
        v
        for k, v in r["versions"].items()
        if k in {"tiatoolbox", "torchstain", "torch-staintools", "stainx", "staintools"}
    )
    return [*rows(head, body), "", f"Versions: {versions}."]


def stain(r: Record) -> list[str]:
    """Ours against StainTools with a fixed matrix."""
    return [
        *rows(
            ["", "MPixel/s", "times StainTools", _GOAL],
            [
                ["first pass", few(r["first_pass_MPixel_per_s"]),
                 few(r["first_pass_over_staintools"]), 20],
                ["table warm", few(r["table_warm_MPixel_per_s"]),
                 few(r["table_warm_over_staintools"]), 20],
                ["StainTools, fixed matrix", few(r["staintools_fixed_matrix_MPixel_per_s"]), 1, ""],
            ],
        ),
        "",
        f"Fit of a slide: {r['fit_s']:.3f} s from {r['fit_pixels']:,} pixels (goal: under 0.2 s).",
    ]  # fmt: skip


def store(r: Record) -> list[str]:
    """Writing and random reading of tile files."""
    return rows(
        ["", "figure", _GOAL],
        [
            ["write, synced", f"{few(r['write_MB_per_s'])} MB/s", 500],
            ["bare write of the same bytes", f"{few(r['write_bare_MB_per_s'])} MB/s", ""],
            [
                f"random batches of 128 from {r['files']} files, {r['tiles']:,} tiles",
                f"{few(r['random_tiles_per_s'])} tiles/s",
                "100,000",
            ],
        ],
    )


def store_lossy(r: Record) -> list[str]:
    """Tile files of JPEG beside those of the pixels as they are."""
    kinds = r["kinds"]
    head = ["", "MB", "time to tile", "tiles/s, random batches", "adenoma above 95% of normal"]
    return [
        *rows(
            head,
            [
                [
                    name,
                    few(kind["MB"]),
                    f"{kind['tile_s']:.1f} s",
                    few(kind["tiles_per_s"]),
                    f"{kind['above_95_percent']:.0%}",
                ]
                for name, kind in kinds.items()
            ],
        ),
        "",
        (
            f"Of {r['fields']:,} fields of the slide with the adenoma, scored by either model: "
            f"rank correlation {r['rank_correlation']:.3f}; median change of a score "
            f"{r['median_change_in_spread']:.2f} of their spread (between quartiles), of a "
            f"percentile {r['median_change_of_percentile']:.1f}; of the highest twentieth "
            f"{r['top_twentieth_same']:.0%} are the same; {r['same_side_of_95']:.0%} lie on the "
            "same side of the line that 5% of normal fields pass."
        ),
    ]


def two_against_one(r: Record) -> list[str]:
    """Two workers against one."""
    return rows(
        ["", "one", "two", "times as fast", _GOAL],
        [
            ["by the clock", f"{r['one_worker_s']:.1f} s", f"{r['two_workers_s']:.1f} s",
             f"{r['speedup']:.2f}", 1.7],
            ["by CPU time", f"{r['one_worker_cpu_s']:.1f} s", f"{r['two_workers_cpu_s']:.1f} s",
             f"{r['speedup_by_cpu_time']:.2f}", 1.7],
        ],
    )  # fmt: skip


def scale_sizes(r: Record) -> list[str]:
    """Time and memory over the slide's size."""
    head = [
        "side, px", "`tile`: fields", "s", "peak MB", "`score`: fields", "s", "fields/s", "peak MB",
    ]  # fmt: skip
    body = []
    for side, score in r["score"].items():
        tile = r["tile"][side]
        body.append(
            [
                f"{int(side):,}", f"{tile['fields']:,.0f}", few(tile["seconds"]),
                few(tile["peak_mb"]), f"{score['fields']:,.0f}", few(score["seconds"]),
                few(score["fields"] / score["seconds"]), few(score["peak_mb"]),
            ]
        )  # fmt: skip
    grown = [
        f"`{what}` {100 * (r[what]['80000']['peak_mb'] / r[what]['10000']['peak_mb'] - 1):+.0f}%"
        for what in ("tile", "score")
    ]
    return [
        *rows(head, body),
        "",
        f"Peak memory from 10,000 to 80,000 px: {' and '.join(grown)} (goal: within 20%).",
    ]


def scale_tiles(r: Record) -> list[str]:
    """Time and memory over the number of tiles."""
    body = []
    for tiles, results in r["results"].items():
        batches = r["batches"][tiles]
        body.append(
            [
                f"{int(tiles):,}", few(results["seconds"]), few(results["peak_mb"]),
                few(results["results_mb"]), few(batches["files"]), f"{batches['open_s']:.2g}",
                few(batches["tiles_per_s"]), few(batches["own_mb"] - batches["before_mb"]),
            ]
        )  # fmt: skip
    return rows(
        [
            "tiles", "results: s", "peak MB", "MB written", "tile files", "s to open",
            "random tiles/s", "MB it takes",
        ],
        body,
    )  # fmt: skip


def scoring(r: Record) -> list[str]:
    """The whole command and its parts."""
    names = {"whole": "whole command", "network": "network alone", "decode": "reading alone",
             "stain": "stain alone"}  # fmt: skip
    names = {key: text for key, text in names.items() if key in r["seconds"]}
    low, high = min(r["of_the_rounds"]), max(r["of_the_rounds"])
    return rows(
        ["", f"{r['fields']:,} fields, {r['threads']} thread{'s' * (r['threads'] > 1)}"],
        [
            *([text, f"{r['seconds'][key]:.2f} s"] for key, text in names.items()),
            [
                "whole over its longest part (goal: 1.5)",
                f"{r['whole_over_longest_part']:.2f} (rounds: {low:.2f} to {high:.2f})",
            ],
        ],
    )


def scoring_start(r: Record) -> list[str]:
    """Imports."""
    return rows(
        ["", "by the clock", "CPU", _GOAL],
        [
            ["`import wsi_anomaly`", f"{1e3 * r['package_s']:.0f} ms",
             f"{1e3 * r['package_cpu_s']:.0f} ms", "500 ms"],
            ["what a worker of `score` imports, once", f"{r['score_s']:.1f} s",
             f"{r['score_cpu_s']:.1f} s", ""],
        ],
    )  # fmt: skip


def geojson(r: Record) -> list[str]:
    """A million tiles."""
    return rows(
        [f"{r['tiles']:,} tiles, gzipped", "figure", _GOAL],
        [
            ["time", f"{r['gzipped_wall_s']:.1f} s by the clock, {r['gzipped_cpu_s']:.1f} s CPU",
             "4 s"],
            ["memory on top of the score map", f"{r['memory_growth_mb']:.0f} MB", "150 MB"],
            ["file", f"{r['gzipped_mb']:.0f} MB", "60 MB"],
            ["the same content with orjson, a feature at a time",
             f"{r['parse_and_dump_one_by_one_cpu_s']:.1f} s CPU", ""],
        ],
    )  # fmt: skip


def training(r: Record) -> list[str]:
    """Networks."""
    names = {"vgg19": "VGG19 to `r42`", "compact_plain": "`compact`, plain PyTorch",
             "vgg19_plain": "VGG19, plain PyTorch"}  # fmt: skip
    body = []
    for what in ("training", "scoring"):
        m = r[what]
        body.append([f"{what}: `compact`", few(m["tiles_per_s"]["compact"]), "",
                     f"{m['goal']['tiles_per_s']} tiles/s"])  # fmt: skip
        for key, text in names.items():
            middle, low, high = m["compact_times"][key]
            goal = f"{m['goal']['times_vgg19']} times" if key == "vgg19" else ""
            body.append(
                [f"{what}: {text}", few(m["tiles_per_s"][key]),
                 f"{middle:.1f} ({low:.1f} to {high:.1f})", goal]
            )  # fmt: skip
    return rows(["", "tiles/s", "`compact` is so many times as fast", _GOAL], body)


def authors(r: Record) -> list[str]:
    """Ours beside the authors' program."""
    names = {"ours_float32": "float32, as `reproduce`", "ours_as_train": "bfloat16, as `train`"}
    body, losses = [], []
    for size, m in r["sizes"].items():
        for what in ("training", "scoring"):
            line = [f"{what}, {size}, loss at `{m['layer']}`"]
            line.append(few(m[what]["images_per_s"]["theirs"]))
            for name in names:
                middle, low, high = m[what]["times_theirs"][name]
                line.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            body.append(line)
        far = {name: m["largest_difference_of_scores"][name] for name in names}
        losses.append(
            f"{size}: losses of the first steps, theirs "
            f"{', '.join(f'{v:.6g}' for v in m['losses']['theirs'])}; ours in float32 "
            f"{', '.join(f'{v:.6g}' for v in m['losses']['ours_float32'])}; scores differ by at "
            f"most {far['ours_float32']:.1g} of their mean in float32 and "
            f"{far['ours_as_train']:.1g} in bfloat16."
        )
    head = ["", "theirs, images/s", *(f"ours, times as fast: {name}" for name in names.values())]
    return [*rows(head, body), "", " ".join(losses)]


def decoders(r: Record) -> list[str]:
    """Decoders of JPEG beside ours."""
    names = {
        "imagecodecs": "imagecodecs, ours", "simplejpeg": "simplejpeg",
        "simplejpeg_quick": "simplejpeg, quick cosines and colours",
        "simplejpeg_half": "simplejpeg, half the size", "opencv": "OpenCV", "pillow": "Pillow",
    }  # fmt: skip
    body = []
    for way, name in names.items():
        found = [level["ways"][way] for level in r["levels"].values()]
        equal = "yes" if all(m["equal"] for m in found) else "no"
        body.append([name, equal, *(f"{m['us_per_tile']} ({m['times_ours']:.2f})" for m in found)])
    return rows(["us a tile (times ours)", "same pixels", *r["levels"]], body)


def dense(r: Record) -> list[str]:
    """One pass over an image."""
    names = {
        "maps": "maps alone", "64_every_64": "64 um fields side by side, from maps",
        "256_every_64": "256 um fields every 64 um, from maps",
        "64_one_by_one": "64 um tiles one by one",
    }  # fmt: skip
    body = [
        [text, *(few(m["mm2_per_s"][key]) for m in r["layers"].values())]
        for key, text in names.items()
    ]
    body.append(["goal, mm2/s", *(m["goal_mm2_per_s"] for m in r["layers"].values())])
    for key in ("64_every_64", "64_one_by_one"):
        line = [f"256 um every 64 um costs so many times: {names[key]} (goal: 1.3)"]
        for m in r["layers"].values():
            middle, low, high = m["256_every_64_costs_times"][key]
            line.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        body.append(line)
    memory = "; ".join(
        f"{int(width):,} px {m['peak_mb'] - m['before_mb']:,} MB"
        for width, m in r["memory"].items()
    )
    return [
        *rows(["`lite0` at 10x, mm2/s", *(f"`{n.split()[0]}` {n.split()[1]}" for n in r["layers"])],
              body),
        "",
        f"Memory on top of what was there, three sizes of field, by the image's width: {memory}.",
    ]  # fmt: skip


def sizing(r: Record) -> list[str]:
    """What a slide costs."""
    names = {
        "tile_10x": "`tile`, 2,000 fields at 10x", "tile_20x": "`tile`, 2,000 fields at 20x",
        "tile_40x": "`tile`, 2,000 fields at 40x", "tile_all": "`tile`, all three",
        "score": "`score`, shipped model (20x, two methods), all fields",
    }  # fmt: skip
    return rows(
        ["command", "CPU a slide", "slides per hour and core", "storage a slide", "CPU to start"],
        (
            [
                text, f"{m['cpu_s']:.1f} s", few(m["slides_per_hour_and_core"]),
                f"{few(m['mb'])} MB", f"{m['start_cpu_s']:.1f} s",
            ]
            for text, m in ((names[key], r["commands"][key]) for key in names)
        ),
    )  # fmt: skip


TABLES: dict[str, Callable[[Record], list[str]]] = {
    "reading": reading,
    "peers_tiling": peers_tiling,
    "peers_stain": peers_stain,
    "stain": stain,
    "store": store,
    "store_lossy": store_lossy,
    "tiling_workers": two_against_one,
    "tiling_dask": two_against_one,
    "scale_sizes": scale_sizes,
    "scale_tiles": scale_tiles,
    "scoring": scoring,
    "scoring_two_threads": scoring,
    "scoring_density": scoring,
    "scoring_start": scoring_start,
    "geojson": geojson,
    "training": training,
    "authors": authors,
    "decoders": decoders,
    "dense": dense,
    "sizing": sizing,
}


def made(name: str) -> str:
    """A table with its marks and what it was measured on."""
    record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    where = (
        f"`{record['command']}`, {record['date']}, {record['cores']} cores of "
        f"{record['processor']}, load average {record['load_average'][0]} (its own work included)."
    )
    lines = [f"<!-- table {name} -->", "", *TABLES[name](record), "", where, "", "<!-- end -->"]
    return "\n".join(lines)


def run(name: str) -> None:
    """Run a benchmark and keep its record."""
    program, *words = RUNS[name].split()
    place = Path(__file__).with_name(program)
    command = [sys.executable, str(place), *words, "--json", str(RECORDS / f"{name}.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=REPOSITORY, env=environment, stdout=sys.stderr)


def with_tables(text: str) -> str:
    """Put the tables of the records into a page."""
    return _MARK.sub(lambda found: made(found[1]), text)


def main() -> None:
    """Run what is asked for, then rewrite every table that a page asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", nargs="+", choices=["all", *RUNS], default=[], metavar="NAME")
    names = parser.parse_args().run
    RECORDS.mkdir(parents=True, exist_ok=True)
    for name in RUNS if "all" in names else names:
        run(name)
    for page in (REPOSITORY / name for name in PAGES):
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
