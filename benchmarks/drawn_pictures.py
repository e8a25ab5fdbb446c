"""Picture of a lesion that is found and of one that is missed, with what is known beside it.

    python benchmarks/drawn_pictures.py OUT.jpg RESULTS/SLIDE OUTLINES/SLIDE.geojson [...]

Takes results of ``score`` and the outlines that the slides were drawn with, as
benchmarks/lesions.py leaves both. Green: the lesions as they were drawn. Black: what is flagged.
Below both: the picture of the report.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely
from common import parser_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from wsi_anomaly.annotations import read_geojson
from wsi_anomaly.evaluation.results import ScoredSlide

LESION, FLAG = "#00a0a0", "#0a0a14"


def _outline(axes: Axes, shape: shapely.Geometry, color: str, width: float) -> None:
    for part in shapely.get_parts(shape):
        axes.plot(*np.asarray(part.exterior.coords).T, color=color, lw=width)


def draw(axes: Axes, results: Path, outlines: Path) -> str:
    """Draw one slide; its name with what was found."""
    slide = ScoredSlide.read(results)
    lesions = shapely.union_all([one.polygon for one in read_geojson(outlines)])
    (x, y), (width, height) = slide.coords.T, slide.field
    cells = shapely.box(x, y, x + width, y + height)
    flagged = shapely.union_all(cells[slide.flagged])
    facts = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    wide, high = facts["slide"]["size_px"]
    with Image.open(results / "thumbnail.jpg") as image:
        picture = np.asarray(image.convert("RGB"))
    axes.imshow(picture, extent=(0, wide, high, 0))
    _outline(axes, lesions, LESION, 1.6)
    _outline(axes, flagged, FLAG, 1.6)
    axes.set(xlim=(0, wide), ylim=(high, 0), xticks=[], yticks=[])
    parts = shapely.get_parts(lesions)
    touched = sum(part.intersects(flagged) for part in parts)
    area = parts[0].area * slide.mpp[0] * slide.mpp[1] / 1e6
    return f"{touched} of {len(parts)} lesions flagged, the first {area:.2f} mm²"


def main() -> None:
    """Draw the slides side by side."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("out", type=Path)
    parser.add_argument("slides", type=Path, nargs="+", help="results and outlines in turn")
    args = parser.parse_args()
    pairs = list(zip(args.slides[::2], args.slides[1::2], strict=True))
    figure = Figure(figsize=(3.6 * len(pairs), 3.8), dpi=110, layout="constrained")
    places = figure.subplots(1, len(pairs), squeeze=False)[0]
    for (results, outlines), axes in zip(pairs, places, strict=True):
        axes.set_title(draw(axes, results, outlines), fontsize=9)
    figure.savefig(args.out, pil_kwargs={"quality": 80})


if __name__ == "__main__":
    main()
