"""Decoders of JPEG beside the one that our reader has, on the compressed tiles of real slides.

    python benchmarks/decoders.py [SLIDE ...] [--tiles 400] [--json decoders.json]

Each decoder has a process of its own, loaded beforehand, and the same core; every round runs all of
them in turn. CPU time; medians of rounds, ratios within a round. Each gets whole streams, tables
included, of tiles that show tissue, of level 0 and of the next one. *Equal*: every tenth tile, all
pixels. Another decoder would be adopted if it were clearly quicker with equal pixels.

Without SLIDE: the larynx slide of the project's data, or a drawn slide where that is missing.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import tifffile
from common import find_slide, finish, parser_of
from peer_programs.environments import PEERS
from peers import compete, ratio

WAYS: dict[str, str | None] = {  # way: environment
    "imagecodecs": None,
    "simplejpeg": "decoders",
    "simplejpeg_quick": "decoders",
    "simplejpeg_half": "decoders",
    "pillow": None,
    "opencv": "decoders",
}
_YCBCR = 6


def streams_of(slide: Path, level: int, most: int) -> tuple[list[bytes], str, int] | None:
    """Whole streams of the larger half of a level's tiles, their colours and their side.

    None where there is no such level, or where it is not of JPEG.
    """
    with tifffile.TiffFile(slide) as tif:
        if level >= len(tif.series[0].levels):
            return None
        page = tif.series[0].levels[level].pages[0]
        if page.compression != tifffile.COMPRESSION.JPEG:
            return None
        counts = np.array(page.databytecounts)
        tissue = np.flatnonzero(counts >= np.median(counts))
        chosen = tissue[:: max(1, len(tissue) // most)][:most]
        tables = (page.jpegtables or b"\xff\xd8\xff\xd9")[2:-2]
        found = []
        for index in chosen.tolist():
            tif.filehandle.seek(page.dataoffsets[index])
            data = tif.filehandle.read(page.databytecounts[index])
            found.append(data[:2] + tables + data[2:])
        space = "ycbcr" if page.photometric == _YCBCR else "rgb"
        return found, space, int(page.tilewidth)


def measured(slide: Path, level: int, most: int, rounds: int, cache: Path) -> dict[str, Any] | None:
    """All decoders on one level of a slide."""
    found = streams_of(slide, level, most)
    if found is None:
        return None
    streams, space, side = found
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(
            folder / "streams.npz",
            data=np.frombuffer(b"".join(streams), np.uint8),
            ends=np.cumsum([len(stream) for stream in streams]),
        )
        job = {"streams": str(folder / "streams.npz"), "colorspace": space, "side": side}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        jobs = dict.fromkeys(WAYS, folder / "job.json")
        times, failed = compete("decoding_ways", WAYS, jobs, rounds, cache)
    ours = times["imagecodecs"]
    return {
        "tiles": len(streams),
        "mean_bytes": round(sum(map(len, streams)) / len(streams)),
        "side": side,
        "ways": {
            way: {
                "us_per_tile": round(
                    1e6 * statistics.median(one["cpu_s"] for one in runs) / len(streams)
                ),
                "times_ours": round(ratio(runs, ours), 2),
                "equal": runs[0]["pixels"] == ours[0]["pixels"],
            }
            for way, runs in times.items()
        },
        "failed": failed,
    }


def main() -> None:
    """Run and print JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("slides", nargs="*", type=Path, metavar="SLIDE")
    parser.add_argument("--tiles", type=int, default=400, help="at most, of a level")
    parser.add_argument(
        "--cache", type=Path, help="environments of the decoders",
        default=Path.home() / ".cache" / "wsi-anomaly-peers",
    )  # fmt: skip
    asked = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        slides = asked.slides or [find_slide(Path(name))]
        levels = {
            f"{slide.name}, level {level}": measured(
                slide, level, asked.tiles, asked.rounds, asked.cache.expanduser()
            )
            for slide in slides
            for level in (0, 1)
        }
    finish(
        {
            "rounds": asked.rounds,
            "versions": list(PEERS["decoders"].packages),
            "levels": {name: found for name, found in levels.items() if found is not None},
        },
        asked.json,
    )


if __name__ == "__main__":
    main()
