"""Fields that the focus rule leaves out, on slides as they are and blurred by a Gaussian.

    python benchmarks/focus.py SLIDE [SLIDE ...] [--mpp 0.25]

Each slide is read through the program's own plane, once for each blur, in whole chunks of 256 um
with tissue; `--mpp` is for DeepZoom slides, which do not say how large a pixel is. Pixels are
rounded to 8 bits after the blur, as in a file. Without slides: drawn ones, sharp and with pale
lesions (mucin, necrosis, fat). `old` is the rule before: variance of the Laplacian over the
variance, below 0.02.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import finish, parser_of
from numpy.typing import NDArray
from scipy import ndimage

from wsi_anomaly.scoring.domain import less_sharp
from wsi_anomaly.slides import (
    TISSUE,
    Bounds,
    Mpp,
    Region,
    Slide,
    TissueMap,
    find_tissue,
    open_slide,
)
from wsi_anomaly.slides.base import SlideInfo
from wsi_anomaly.slides.overview import map_shape
from wsi_anomaly.synthetic import make_slide
from wsi_anomaly.tiles import Fields, Status, plan_fields
from wsi_anomaly.tiles.plane import CHUNK_PX, SlidePlane
from wsi_anomaly.tiles.plane_file import chunk_of
from wsi_anomaly.tiles.sharpness import amid_blur

SIGMAS_UM = (0.0, 0.5, 1.0, 1.8, 2.0, 4.0, 8.0)
LESIONS = ("mucin", "necrosis", "fat")
_OLD_LIMIT = 0.02


class Blurred(Slide):
    """A slide out of focus."""

    backend = "blurred"

    def __init__(self, slide: Slide, sigma_um: float) -> None:
        super().__init__(slide.path, slide.info)
        self._slide, self._sigma_um = slide, sigma_um

    def close(self) -> None:
        """Nothing of its own to close."""

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """Read more than is asked for, blur it, and cut it out."""
        sigma = self._sigma_um / (self._slide.finest_mpp * self.level_downsamples[level])
        rim = int(np.ceil(4 * sigma)) + 1
        wide = self._slide.read_level(level, x - rim, y - rim, width + 2 * rim, height + 2 * rim)
        soft = ndimage.gaussian_filter(wide.rgb.astype(np.float32), (sigma, sigma, 0))
        inside = np.s_[rim : rim + height, rim : rim + width]
        coverage = None if wide.coverage is None else wide.coverage[inside]
        return Region(np.rint(soft[inside]).astype(np.uint8), coverage)


class Painted(Slide):
    """A picture in memory, all of it tissue."""

    backend = "painted"

    def __init__(self, name: str, image: NDArray[np.uint8], mpp: float) -> None:
        height, width = image.shape[:2]
        size = width, height
        info = SlideInfo(*size, (size,), (1.0,), Mpp(mpp, mpp, "drawn"), Bounds(0, 0, *size))
        super().__init__(Path(f"{name}.tif"), info)
        self.image = image
        self.tissue = TissueMap.over(
            self, np.full(map_shape(self), TISSUE, np.uint8), (243.0, 243.0, 243.0)
        )

    def close(self) -> None:
        """Nothing to close."""

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Region:
        """Cut out; glass outside."""
        del level
        rgb = np.full((height, width, 3), 255, np.uint8)
        part = self.image[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
        top, left = max(0, -y), max(0, -x)
        rgb[top : top + part.shape[0], left : left + part.shape[1]] = part
        return Region(rgb)


def pale(kind: str, side: int = 2400, mpp: float = 0.5) -> NDArray[np.uint8]:
    """Draw a pale lesion: densities of the stains, an objective's blur of 0.25 um, a camera."""
    rng = np.random.default_rng(LESIONS.index(kind))

    def texture(um: float) -> NDArray[np.float64]:
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), um / mpp)
        scaled: NDArray[np.float64] = noise / noise.std()
        return scaled

    hematoxylin, eosin = np.zeros((side, side)), np.zeros((side, side))
    if kind == "mucin":
        hematoxylin += 0.16 + 0.04 * texture(20) + 0.05 * (np.abs(texture(6)) < 0.15)
    elif kind == "necrosis":
        eosin += 0.4 + 0.06 * texture(30) + 0.05 * texture(1.5)
        hematoxylin += 0.15 * (texture(2) > 2.8)
    else:
        seeds = rng.uniform(0, side, (int((side * mpp / 60) ** 2), 2)).astype(int)
        empty = np.ones((side, side), bool)
        empty[seeds[:, 0], seeds[:, 1]] = False
        _, nearest = ndimage.distance_transform_edt(empty, return_indices=True)
        owner = nearest[0] * side + nearest[1]
        wall = (owner != np.roll(owner, 1, 0)) | (owner != np.roll(owner, 1, 1))
        eosin += 0.02 + 0.5 * ndimage.binary_dilation(wall, iterations=2)
    density = np.stack((hematoxylin, eosin), -1) @ np.array([[0.65, 0.70, 0.29], [0.2, 0.94, 0.27]])
    light = 243 * np.exp(-ndimage.gaussian_filter(density, (0.25 / mpp, 0.25 / mpp, 0)))
    seen: NDArray[np.uint8] = np.clip(light + rng.normal(0, 1.5, light.shape), 0, 255).astype("u1")
    return seen


def measure(slide: Slide, sigma_um: float, whole: Slide, most: int) -> dict[str, Any]:
    """Judge the fields of at most `most` chunks of a slide; the tissue is that of the sharp one."""
    tissue = whole.tissue if isinstance(whole, Painted) else find_tissue(whole)
    fields = plan_fields(whole, tissue, field_um=64.0, min_tissue=0.1)
    fields = fields.take(np.flatnonzero(fields.status == Status.OK))
    plane = SlidePlane(Blurred(slide, sigma_um) if sigma_um else slide, tissue, 10)
    fields = _of_some_chunks(plane, fields, most)
    old = np.zeros(plane.status.shape, bool)
    for row, column in sorted(
        set(zip(*(v.tolist() for v in chunk_of(plane, fields)), strict=True))
    ):
        pixels = plane.chunk(row, column)
        side = plane.square_px
        for top in range(0, pixels.shape[0] - side + 1, side):
            for left in range(0, pixels.shape[1] - side + 1, side):
                square = pixels[top : top + side, left : left + side, 1].astype(float)
                place = (row * CHUNK_PX + top) // side, (column * CHUNK_PX + left) // side
                edges = ndimage.laplace(square)[1:-1, 1:-1]
                old[place] = edges.var() < _OLD_LIMIT * square.var()
    status = plane.status_of(fields)
    status[amid_blur(fields, status)] = Status.BLURRED
    sharp = plane.sharpness_of(fields)[status == Status.OK]
    median = float(np.median(sharp)) if len(sharp) else float("nan")
    return {
        "fields": len(fields),
        "blurred_percent": round(100 * float((status == Status.BLURRED).mean()), 2),
        "old_percent": round(100 * float(old[fields.row, fields.col].mean()), 2),
        "sharpness": round(median, 3),
        "less_sharp": bool(less_sharp({}, median)),
    }


def _of_some_chunks(plane: SlidePlane, fields: Fields, most: int) -> Fields:
    rows, columns = chunk_of(plane, fields)
    names, of = np.unique(rows * plane.width + columns, return_inverse=True)
    chosen = np.random.default_rng(0).permutation(len(names))[:most]
    return fields.take(np.flatnonzero(np.isin(of, chosen)))


@contextmanager
def _drawn() -> Iterator[list[Slide]]:
    with tempfile.TemporaryDirectory() as folder:
        slides: list[Slide] = [Painted(kind, pale(kind), 0.5) for kind in LESIONS]
        for seed, mpp, lesion in ((1, 0.5, None), (2, 0.25, None), (3, 0.5, "hard")):
            path = Path(folder) / f"drawn-{seed}.tif"
            make_slide(path, seed=seed, size_px=(3000, 3000), mpp=mpp, lesions=lesion)
            slides.append(open_slide(path))
        try:
            yield slides
        finally:
            for slide in slides:
                slide.close()


def main() -> None:
    """Run."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("slides", nargs="*", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--chunks", type=int, default=60, help="at most so many of a slide")
    args = parser.parse_args()
    found: dict[str, Any] = {}

    def take(name: str, slide: Slide) -> None:
        found[name] = {f"{s:g}": measure(slide, s, slide, args.chunks) for s in SIGMAS_UM}
        shares = " ".join(f"{v['blurred_percent']:6.2f}" for v in found[name].values())
        print(f"{name:28}{shares}", flush=True)

    for path in args.slides:
        with open_slide(path, mpp=args.mpp) as slide:
            take(path.parent.name if path.suffix == ".dzi" else path.stem, slide)
    if not args.slides:
        with _drawn() as slides:
            for slide in slides:
                take(slide.name, slide)
    finish(found, args.json)


if __name__ == "__main__":
    main()
