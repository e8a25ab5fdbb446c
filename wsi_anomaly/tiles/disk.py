"""How much room tile files may take, said before the first of them is written."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from wsi_anomaly.core.errors import WsiAnomalyError
from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.slides import Slide, open_slide
from wsi_anomaly.tiles.config import TileConfig
from wsi_anomaly.tiles.jobs import Job
from wsi_anomaly.tiles.plane import CHUNK_PX
from wsi_anomaly.tiles.plane_file import CHUNK_BYTES, MOST_PLANE_BYTES
from wsi_anomaly.tiles.store import SUFFIX

_JPEG_SHARE = 0.5  # of the pixels' bytes; tissue at 10x takes up to 0.4
_JPEG_HEAD = 650  # bytes, of each picture
_MOST_OPENED = 30  # slides, spread over all of them: on a network disk each costs a while


def room_needed(jobs: Sequence[Job], output: Path, config: TileConfig) -> int:
    """Bytes that the tile files of these slides take at most; those that are there need none.

    How much of a slide is tissue is not known yet: the whole scanned area is taken for it.
    """
    left = [job for job in jobs if not (output / f"{job.name}{SUFFIX}").exists()]
    sizes = []
    for job in left[:: len(left) // _MOST_OPENED + 1]:
        try:
            with open_slide(job.slide, mpp=job.mpp, backend=job.backend, scene=job.scene) as slide:
                sizes.append(_most_bytes(slide, config))
        except (WsiAnomalyError, OSError):  # tiling it will say what is wrong
            continue
    return round(sum(sizes) / len(sizes) * len(left)) if sizes else 0


def _most_bytes(slide: Slide, config: TileConfig) -> int:
    area_um2 = slide.bounds.width * slide.mpp.x * slide.bounds.height * slide.mpp.y
    stride_um = config.stride or config.tile_size
    fields = round(area_um2 / stride_um**2)
    if config.max_tiles is not None:
        fields = min(fields, config.max_tiles)
    count, total = len(config.magnifications), 0.0
    for magnification in config.magnifications:
        total += fields * (config.tile_size * magnification / 10) ** 2 * 3
        if config.preprocessing.is_pixelwise:
            total += min(_chunks(slide, magnification) * CHUNK_BYTES, MOST_PLANE_BYTES / count)
    if config.compression == "jpeg":
        total = total * _JPEG_SHARE + fields * count * _JPEG_HEAD
    return round(1.02 * total) + 1_000_000  # what is kept of each field, the tissue, HDF5's own


def _chunks(slide: Slide, magnification: float) -> int:
    """Chunks of the whole plane: those at the edges are stored whole."""
    px = [
        side * mpp / mpp_of(magnification)
        for side, mpp in zip(
            (slide.bounds.width, slide.bounds.height), (slide.mpp.x, slide.mpp.y), strict=True
        )
    ]
    return math.prod(math.ceil(side / CHUNK_PX) for side in px)


def about_room(needed: int, output: Path) -> tuple[str, bool]:
    """Say how much is needed and how much there is; and whether it may be too little."""
    free = shutil.disk_usage(output).free
    text = f"{output}/ will take at most {_gigabytes(needed)}; {_gigabytes(free)} are free"
    if needed > free:
        text += (
            ", which may not suffice: make room, or ask for fewer --magnifications or --max-tiles. "
            "What does not fit is said, and the same command goes on"
        )
    return f"{text}.", needed > free


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
