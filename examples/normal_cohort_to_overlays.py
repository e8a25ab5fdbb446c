"""From a folder of normal slides to overlays of new ones, in ten lines of Python.

    python examples/normal_cohort_to_overlays.py normal_slides/ new_slides/ out/

Then open out/results/index.html, and drag an overlay.geojson onto its slide in QuPath.
"""

import sys
from pathlib import Path

import wsi_anomaly


def main(normal_slides: str, new_slides: str, out: Path) -> None:
    wsi_anomaly.tile(normal_slides, out / "tiles")
    if not (out / "model").exists():
        wsi_anomaly.train(out / "tiles", out / "model")
    results = wsi_anomaly.score(
        new_slides, model=out / "model", output=out / "results", heatmap=True
    )
    for result in results:
        regions = result.interpretation.regions
        print(result.slide.name, f"{len(regions)} regions to look at", sep=": ")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
