"""Score one slide: read, normalise and judge every field, each stage while the others work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.ahead import ahead
from wsi_anomaly.core.errors import NoTissueError, TooCoarseError
from wsi_anomaly.core.magnification import mpp_of, serves
from wsi_anomaly.jobs import Progress
from wsi_anomaly.scoring.controls import Controls
from wsi_anomaly.scoring.domain import domain_warnings
from wsi_anomaly.scoring.interpretation import interpret
from wsi_anomaly.scoring.model import ScoringModel, scoring_settings
from wsi_anomaly.scoring.places import PixelMaps, fields_to_map
from wsi_anomaly.scoring.score_map import ScoreMap, SlideFacts
from wsi_anomaly.slides import Mpp, Slide, TissueMap, find_tissue, open_slide
from wsi_anomaly.slides.overview import read_overview
from wsi_anomaly.tiles import (
    Fields,
    Preprocessing,
    SlidePreprocessor,
    Status,
    plan_fields,
    read_fields,
)
from wsi_anomaly.tiles.inputs import tissue_from_file
from wsi_anomaly.tiles.sharpness import sharpness

BATCH_SIZE = 256
_SHARPNESS_STEP = 8  # every so many fields: the median needs no more
_QUEUED_BATCHES = 4  # bounds the memory; more only hides longer stalls of the disk
Batch = tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.uint8]]


def score_slide(
    path: str | Path | Slide,
    model: ScoringModel,
    *,
    stride_um: float | None = None,
    min_tissue: float = 0.1,
    mpp: float | None = None,
    false_regions: float = 1.0,
    fdr: float | None = None,
    pixel_map: bool = False,
    tissue_mask: Path | None = None,
    controls: Controls | None = None,
    backend: str = "auto",
    progress: Progress | None = None,
) -> ScoreMap:
    """Score every field of tissue of a slide.

    Parameters
    ----------
    path
        The slide; one that is open already stays open, with its own `mpp` and `backend`.
    model
        A loaded model; it decides magnification, field size and preprocessing.
    stride_um
        From one field to the next; by default one field, without overlap.
    min_tissue
        Least share of tissue in a field.
    mpp
        Micrometres per level-0 pixel, in place of what the file says.
    false_regions
        At most so many false regions on a normal slide.
    fdr
        Flag single fields by Benjamini-Hochberg at this q instead.
    pixel_map
        Keep the error maps of all flagged fields (at most 1,000), not only of the gallery's.
    tissue_mask
        Outlines or a mask image of the tissue, in place of finding it.
    controls
        Concurrent controls, in place of the model's own calibration slides.
    backend
        Reader: "auto", "openslide" or "tiff"; the pixels are the same.
    progress
        Called with fields done and fields in all, after every batch.

    Raises
    ------
    SlideError
        The slide cannot be opened, has no mpp, no tissue, or is too coarse for the model.
    AnnotationError
        The tissue mask cannot be read, or was made for another slide.
    ModelError
        The scores of the controls cannot be read.
    """
    timings: dict[str, float] = {}
    with (
        nullcontext(path)
        if isinstance(path, Slide)
        else open_slide(path, mpp=mpp, backend=backend) as slide
    ):
        if not serves(slide.finest_mpp, model.magnification):
            raise TooCoarseError(
                f"{slide.path} has {slide.finest_mpp:.3g} um per pixel at its finest, too coarse "
                f"for this model, which looks at {model.magnification}x "
                f"({mpp_of(model.magnification):g} um); use a scan of a higher magnification."
            )
        facts = SlideFacts.of(slide)
        start = time.perf_counter()
        tissue = _find_tissue(slide, tissue_mask)
        field_um = model.tile_size * mpp_of(model.magnification)
        fields = plan_fields(
            slide, tissue, field_um=field_um, stride_um=stride_um, min_tissue=min_tissue,
            max_tiles=None,
        )  # fmt: skip
        if (fields.status == Status.MASKED).all():
            raise NoTissueError(
                f"No tissue was found on {slide.path}; look at it, or lower --min-tissue."
            )
        outline, tissue_mm2 = tissue.polygons(), tissue.area_mm2()
        preprocess = Preprocessing.from_dict(model.preprocessing).for_slide(slide, tissue)
        timings["tissue and stain"] = time.perf_counter() - start

        start = time.perf_counter()
        looked_at = np.flatnonzero(fields.status != Status.MASKED)
        batches = read_fields(
            slide,
            fields.take(looked_at),
            magnification=model.magnification,
            tile_size=model.tile_size,
            preprocess=preprocess,
            batch_size=BATCH_SIZE,
        )
        status, scores, median_sharpness = _score_batches(
            batches, model, fields.status, looked_at, progress, timings
        )
        timings["read and score"] = time.perf_counter() - start

        calibration: Calibration | None = model.calibration.get(model.primary)
        seen = model.seen.get(facts.fingerprint)
        if controls is not None:
            calibration = controls.calibration()
            # The model has not learned from its calibration slides, and they are not in use now.
            seen = None if seen == "calibration" else seen
        start = time.perf_counter()
        found = interpret(
            fields,
            scores[model.primary],
            calibration,
            mpp=(facts.mpp.x, facts.mpp.y),
            seen=seen,
            false_regions=false_regions,
            fdr=fdr,
            concurrent=controls is not None,
            domain_warnings=[
                *([] if tissue_mask is None else [_mask_warning(fields, facts.mpp)]),
                *domain_warnings(
                    model.domain,
                    preprocessor=preprocess,
                    mpp=slide.finest_mpp,
                    sharpness=median_sharpness,
                ),
            ],
        )
        chosen = fields_to_map(
            fields,
            found.smoothed,
            found.flagged,
            many=pixel_map,
            tile_size=model.tile_size,
        )
        maps = _pixel_maps(slide, fields, chosen, model, preprocess)
        timings["interpretation"] = time.perf_counter() - start

    return ScoreMap(
        slide=facts,
        fields=fields,
        status=status,
        scores=scores,
        primary=model.primary,
        interpretation=found,
        calibration=calibration,
        seen=seen,
        model={
            "name": model.name,
            "version": model.version,
            "hash": model.hash,
            "magnification": model.magnification,
            "tile_size": model.tile_size,
            "methods": list(model.methods),
            "primary": model.primary,
            "provenance": dict(model.provenance),
        },
        settings=scoring_settings(
            model,
            stride_um=stride_um,
            min_tissue=min_tissue,
            mpp=mpp,
            false_regions=false_regions,
            fdr=fdr,
            pixel_map=pixel_map,
            tissue_mask=tissue_mask,
            controls=controls,
        ),
        tissue=outline,
        tissue_mm2=tissue_mm2,
        timings=timings,
        pixel_maps=maps,
    )


def _find_tissue(slide: Slide, mask: Path | None) -> TissueMap:
    """Find the tissue; what a mask leaves out of it is MASKED."""
    if mask is None:
        return find_tissue(slide)
    overview = read_overview(slide)
    return tissue_from_file(slide, mask, overview).with_masked(find_tissue(slide, overview))


def _mask_warning(fields: Fields, mpp: Mpp) -> str:
    masked = np.count_nonzero(fields.status == Status.MASKED) * fields.area_mm2((mpp.x, mpp.y))
    return (
        f"The tissue was given by a mask: nothing outside it was looked at ({masked:.2f} mm2 of "
        "tissue), and silence there does not mean normal."
    )


def _score_batches(
    batches: Iterator[Batch],
    model: ScoringModel,
    planned: NDArray[np.uint8],
    looked_at: NDArray[np.intp],
    progress: Progress | None,
    timings: dict[str, float],
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]], float]:
    """Judge the fields that can be judged; the rest keep NaN and their reason.

    The batches hold positions in `looked_at`, which holds positions in all fields. The last of the
    three is the median sharpness of the judged fields, NaN without any.
    """
    status = planned.copy()
    scores = {m: np.full(len(planned), np.nan, np.float32) for m in model.methods}
    done, network = 0, 0.0
    sharp: list[NDArray[np.float32]] = []
    for positions, images, seen in ahead(batches, _QUEUED_BATCHES):
        indices = looked_at[positions]
        found = seen.copy()
        good = found == Status.OK
        if good.any():
            judged = images if good.all() else images[good]
            sharp.append(sharpness(judged[::_SHARPNESS_STEP], mpp_of(model.magnification)))
            start = time.perf_counter()
            batch = model.score_tiles(judged)
            network += time.perf_counter() - start
            finite = np.all([np.isfinite(batch[m]) for m in model.methods], axis=0)
            found[np.flatnonzero(good)[~finite]] = Status.FAILED
            for method, values in scores.items():
                values[indices[good]] = np.where(finite, batch[method], np.nan)
        status[indices] = found
        done += len(indices)
        if progress is not None:
            progress(done, len(looked_at))
    timings["network"] = network
    return status, scores, float(np.median(np.concatenate(sharp))) if sharp else float("nan")


def _pixel_maps(
    slide: Slide,
    fields: Fields,
    chosen: NDArray[np.intp],
    model: ScoringModel,
    preprocess: SlidePreprocessor,
) -> PixelMaps | None:
    """Read some fields once more, for their error maps; those that cannot be read are left out."""
    kept, tiles, maps = [], [], []
    batches = read_fields(
        slide,
        fields.take(chosen),
        magnification=model.magnification,
        tile_size=model.tile_size,
        preprocess=preprocess,
        batch_size=BATCH_SIZE,
    )
    for indices, images, status in batches:
        good = status == Status.OK
        if not good.any():
            continue
        made = model.pixel_maps(images[good])
        if made is None:
            return None
        kept.append(indices[good])
        tiles.append(images[good])
        maps.append(made)
    if not kept:
        return None
    order = np.argsort(np.concatenate(kept))
    return PixelMaps(
        chosen[np.concatenate(kept)[order]],
        np.concatenate(tiles)[order],
        np.concatenate(maps)[order],
    )
