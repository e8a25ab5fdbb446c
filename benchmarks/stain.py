"""Stain normalisation against StainTools with a fixed matrix, in one run, on one core.

    python benchmarks/stain.py

Goals: at least 20 times StainTools; the fit of a slide under 0.2 s. Medians of CPU time, the two
interleaved. Without real slides (../shared/data or $WSI_ANOMALY_DATA) it draws one.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from common import find_slide, finish, parser_of

from wsi_anomaly.slides import find_tissue, open_slide
from wsi_anomaly.stain import StainNormalizer, fit_profile, reference_target
from wsi_anomaly.tiles import plan_fields, read_fields
from wsi_anomaly.tiles.preprocessing import sample_tissue


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--tiles", type=int, default=2000, help="of 64 px, as a slide has")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_slide(find_slide(Path(folder))) as slide:
        tissue = find_tissue(slide)
        fields = plan_fields(slide, tissue, field_um=64, max_tiles=options.tiles)
        tiles = np.concatenate(
            [images for _, images, _ in read_fields(slide, fields, magnification=10, tile_size=64)]
        )
        sample = sample_tissue(slide, tissue)
        name = slide.path.name
    profile, target = fit_profile(sample, white=tissue.white), reference_target()
    few = tiles[:: max(1, len(tiles) // 100)]
    ours: dict[str, list[float]] = {"first_pass": [], "table_warm": [], "fit": []}
    theirs: list[float] = []
    try:
        from wsi_anomaly.stain.staintools_engine import StainToolsNormalizer, require_staintools

        require_staintools()
        reference = StainToolsNormalizer(profile, target)
    except ImportError:
        reference = None
    StainNormalizer(profile, target)(few)  # compiled
    for _ in range(options.rounds):
        normalize = StainNormalizer(profile, target)
        ours["first_pass"].append(seconds(lambda n=normalize: n(tiles)))
        ours["table_warm"].append(seconds(lambda n=normalize: n(tiles)))
        ours["fit"].append(seconds(lambda: fit_profile(sample, white=tissue.white)))
        if reference is not None:
            theirs.append(seconds(lambda: [reference(tile) for tile in few]))
    megapixels = tiles.size / 3e6
    warm = megapixels / statistics.median(ours["table_warm"])
    result = {
        "slide": name,
        "tiles": len(tiles),
        "first_pass_MPixel_per_s": megapixels / statistics.median(ours["first_pass"]),
        "table_warm_MPixel_per_s": warm,
        "fit_s": statistics.median(ours["fit"]),
        "fit_pixels": len(sample),
    }
    if theirs:
        staintools = few.size / 3e6 / statistics.median(theirs)
        result |= {
            "staintools_fixed_matrix_MPixel_per_s": staintools,
            "first_pass_over_staintools": result["first_pass_MPixel_per_s"] / staintools,
            "table_warm_over_staintools": warm / staintools,
        }
    finish(result, options.json)


if __name__ == "__main__":
    main()
