"""How fast fields are read from a slide, against OpenSlide and against the bare JPEG decoder.

    python benchmarks/reading.py [SLIDE] [--json reading.json]

Every round times all of them, one after the other, on one core; figures are medians over rounds,
ratios are taken within a round. Two cases: 64 px at 10x from the slide as it is (a level is
resampled), and from a copy at exactly 1 um a pixel (nothing is resampled). The bare decoder gets
each compressed tile that a field touches, once, from memory: nobody who decodes JPEG can be
faster. Goals: 4 times OpenSlide; 3.2 times the bare decoder's time (2.2 without resampling).

Without SLIDE: the larynx slide of the project's data, or a drawn slide where that is missing.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import tifffile
from common import find_slide, finish, parser_of
from PIL import Image

from wsi_anomaly.slides import Slide, find_tissue, open_slide
from wsi_anomaly.tiles.fields import Fields, plan_fields
from wsi_anomaly.tiles.reading import read_fields, reading_order

SIZE, MPP = 64, 1.0


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def with_read_fields(path: Path, fields: Fields, backend: str) -> None:
    with open_slide(path, backend=backend) as slide:
        for _ in read_fields(slide, fields, magnification=10, tile_size=SIZE):
            pass


def with_openslide(path: Path, corners: np.ndarray, level: int, side: int) -> None:
    """What everybody writes first: one read_region and one resize a tile."""
    with openslide.OpenSlide(path) as slide:
        for x, y in corners:
            region = slide.read_region((int(x), int(y)), level, (side, side)).convert("RGB")
            if side != SIZE:
                region = region.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            np.asarray(region)


def compressed_tiles(path: Path, slide: Slide, fields: Fields) -> tuple[list[bytes], bytes | None]:
    """Each compressed tile of the level that serves which a field touches, and JPEG tables."""
    level = slide.best_level(MPP)
    size = np.array(fields.field_level0) / slide.level_downsamples[level]
    with tifffile.TiffFile(path) as tif:
        page = tif.series[0].levels[level].pages[0]
        columns = math.ceil(page.imagewidth / page.tilewidth)
        wanted = set()
        for x, y in fields.coords / slide.level_downsamples[level]:
            for row in range(int(y // page.tilelength), math.ceil((y + size[1]) / page.tilelength)):
                for column in range(
                    int(x // page.tilewidth), math.ceil((x + size[0]) / page.tilewidth)
                ):
                    wanted.add(row * columns + column)
        tiles = []
        for index in sorted(wanted):
            tif.filehandle.seek(page.dataoffsets[index])
            tiles.append(tif.filehandle.read(page.databytecounts[index]))
        return tiles, page.jpegtables


def measure(path: Path, rounds: int) -> dict[str, float]:
    """Time every way of reading this slide's tissue."""
    with open_slide(path) as slide:
        fields = plan_fields(slide, find_tissue(slide), field_um=SIZE * MPP)
        level = slide.best_level(MPP)
        side = round(SIZE * MPP / (slide.finest_mpp * slide.level_downsamples[level]))
        corners = fields.coords[reading_order(slide, fields)]
        tiles, tables = compressed_tiles(path, slide, fields)

    def bare() -> None:
        for tile in tiles:
            imagecodecs.jpeg8_decode(tile, tables=tables)

    ways = {
        "ours": lambda: with_read_fields(path, fields, "tiff"),
        "ours_on_openslide": lambda: with_read_fields(path, fields, "openslide"),
        "openslide_per_tile": lambda: with_openslide(path, corners, level, side),
        "bare_decode": bare,
    }
    ways["ours"]()  # compiles
    times = [{name: seconds(way) for name, way in ways.items()} for _ in range(rounds)]

    def median(value: Callable[[dict[str, float]], float]) -> float:
        return round(statistics.median(map(value, times)), 3)

    return {
        "fields": len(fields),
        "compressed_tiles": len(tiles),
        **{f"{name}_s": median(lambda t, name=name: t[name]) for name in ways},
        "ours_tiles_per_s": round(len(fields) / median(lambda t: t["ours"])),
        "times_openslide_per_tile": median(lambda t: t["openslide_per_tile"] / t["ours"]),
        "ours_per_bare_decode": median(lambda t: t["ours"] / t["bare_decode"]),
        "openslide_per_bare_decode": median(lambda t: t["openslide_per_tile"] / t["bare_decode"]),
    }


def at_exactly_10x(path: Path, out: Path) -> Path:
    """Write the slide again at 1 um a pixel, in JPEG tiles."""
    with open_slide(path) as slide:
        size = (int(slide.width * slide.mpp.x / MPP), int(slide.height * slide.mpp.y / MPP))
        image = slide.read(0, 0, size, MPP).rgb
    tifffile.imwrite(
        out, image, tile=(256, 256), photometric="rgb", compression="jpeg", metadata=None,
        compressionargs={"level": 75}, resolution=(1e4, 1e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return out


def main() -> None:
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("slide", nargs="?", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.slide or find_slide(Path(folder))
        result = {
            "slide": path.name,
            "resampled": measure(path, options.rounds),
            "not_resampled": measure(
                at_exactly_10x(path, Path(folder) / "at_10x.tif"), options.rounds
            ),
        }
    finish(result, options.json)


if __name__ == "__main__":
    main()
