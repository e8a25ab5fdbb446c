"""Picture of a lesion that is found and of one that is missed, beside what is known of them.

    python benchmarks/drawn_pictures.py OUT.jpg DEMO

DEMO is the folder of ``wsi-anomaly demo``. One of its slides is shown, and a slide that is drawn
here with small, faint lesions and scored by the demo's model: an example of each, chosen to be one.
Green: the lesions as they were drawn. Black: what is flagged, on the picture of the report.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from wsi_anomaly import api
from wsi_anomaly.annotations import read_geojson
from wsi_anomaly.evaluation.results import ScoredSlide
from wsi_anomaly.synthetic import make_slide

LESION, FLAG = "#00a0a0", "#0a0a14"
FOUND, MISSED_SEED = "unseen_lesion_3", 7001


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
    area = lesions.area * slide.mpp[0] * slide.mpp[1] / 1e6
    share = flagged.intersection(lesions).area / lesions.area
    return f"lesions of {area:.2f} mm² together, {share:.0%} of it flagged"


def main() -> None:
    """Score what is missed, and draw both side by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("demo", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        outlines = here / "missed.geojson"
        make_slide(
            here / "missed.tif", seed=MISSED_SEED, size_px=(2000, 2000), mpp=0.5, lesions="hard",
            lesion_mm2=0.02, outlines_path=outlines,
        )  # fmt: skip
        api.score(here / "missed.tif", args.demo / "model", here / "results")
        pairs = {
            args.demo / "results" / FOUND: args.demo / "outlines" / f"{FOUND}.geojson",
            here / "results" / "missed": outlines,
        }
        figure = Figure(figsize=(3.6 * len(pairs), 3.8), dpi=110, layout="constrained")
        places = figure.subplots(1, len(pairs))
        for (results, known), axes in zip(pairs.items(), places, strict=True):
            axes.set_title(draw(axes, results, known), fontsize=9)
        figure.savefig(args.out, pil_kwargs={"quality": 80})


if __name__ == "__main__":
    main()
