"""Score one slide: read, normalise and judge every field, each stage while the others work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.ahead import ahead
from wsi_anomaly.core.errors import NoTissueError, TooCoarseError
from wsi_anomaly.core.files import fingerprint
from wsi_anomaly.core.magnification import mpp_of, serves
from wsi_anomaly.scoring.score_map import ScoreMap, SlideFacts, interpret
from wsi_anomaly.slides import Slide, find_tissue, open_slide
from wsi_anomaly.tiles import Preprocessing, Status, plan_fields, read_fields

BATCH_SIZE = 256
_QUEUED_BATCHES = 4  # bounds the memory; more only hides longer stalls of the disk
Progress = Callable[[int, int], None]
Batch = tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.uint8]]


class ScoringModel(Protocol):
    """What scoring needs of a model (``wsi_anomaly.detectors.Model`` is one)."""

    name: str
    magnification: int
    tile_size: int
    preprocessing: Mapping[str, Any]
    primary: str
    calibration: Mapping[str, Calibration]
    seen: Mapping[str, str]
    provenance: Mapping[str, Any]

    @property
    def version(self) -> Any:
        """Version of the model folder's format or of the model."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, each with a raw score."""

    @property
    def hash(self) -> str:
        """Identity of the model by content."""

    def score_tiles(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.floating]]:
        """Raw scores (N,) per method of tiles (N, S, S, 3)."""


def slide_facts(slide: Slide) -> SlideFacts:
    """Collect the facts of an open slide that results carry."""
    return SlideFacts(
        name=slide.name,
        path=str(slide.path),
        fingerprint=fingerprint(slide.path),
        width=slide.width,
        height=slide.height,
        mpp=slide.mpp,
        bounds=slide.bounds,
        backend=slide.backend,
        objective_power=slide.objective_power,
        vendor=slide.properties.get("openslide.vendor"),
    )


def scoring_settings(
    model: ScoringModel,
    *,
    stride_um: float | None = None,
    min_tissue: float = 0.1,
    mpp: float | None = None,
    false_regions: float = 1.0,
) -> dict[str, float | None]:
    """Options that decide a result, with their defaults filled in; see :func:`score_slide`."""
    field_um = model.tile_size * mpp_of(model.magnification)
    return {
        "stride_um": field_um if stride_um is None else stride_um,
        "min_tissue": min_tissue,
        "mpp": mpp,
        "false_regions": false_regions,
    }


def score_slide(
    path: str | Path,
    model: ScoringModel,
    *,
    stride_um: float | None = None,
    min_tissue: float = 0.1,
    mpp: float | None = None,
    false_regions: float = 1.0,
    progress: Progress | None = None,
) -> ScoreMap:
    """Score every field of tissue of a slide.

    Parameters
    ----------
    path
        The slide.
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
    progress
        Called with fields done and fields in all, after every batch.

    Raises
    ------
    SlideError
        The slide cannot be opened, has no mpp, no tissue, or is too coarse for the model.
    """
    timings: dict[str, float] = {}
    with open_slide(path, mpp=mpp) as slide:
        if not serves(slide.finest_mpp, model.magnification):
            raise TooCoarseError(
                f"{path} has {slide.finest_mpp:.3g} um per pixel at its finest, too coarse for "
                f"this model, which looks at {model.magnification}x "
                f"({mpp_of(model.magnification):g} um); use a scan of a higher magnification."
            )
        facts = slide_facts(slide)
        start = time.perf_counter()
        tissue = find_tissue(slide)
        field_um = model.tile_size * mpp_of(model.magnification)
        fields = plan_fields(
            slide, tissue, field_um=field_um, stride_um=stride_um, min_tissue=min_tissue,
            max_tiles=None,
        )  # fmt: skip
        if not len(fields):
            raise NoTissueError(
                f"No tissue was found on {path}; look at it, or lower --min-tissue."
            )
        preprocess = Preprocessing.from_dict(model.preprocessing).for_slide(slide, tissue)
        timings["tissue and stain"] = time.perf_counter() - start

        start = time.perf_counter()
        batches = read_fields(
            slide,
            fields,
            magnification=model.magnification,
            tile_size=model.tile_size,
            preprocess=preprocess,
            batch_size=BATCH_SIZE,
        )
        status, scores = _score_batches(batches, model, fields.status, progress, timings)
        timings["read and score"] = time.perf_counter() - start
        outline = tissue.polygons()
        tissue_mm2 = tissue.area_mm2()

    calibration = model.calibration.get(model.primary)
    seen = model.seen.get(facts.fingerprint)
    return ScoreMap(
        slide=facts,
        fields=fields,
        status=status,
        scores=scores,
        primary=model.primary,
        interpretation=interpret(
            fields,
            scores[model.primary],
            calibration,
            mpp=(facts.mpp.x, facts.mpp.y),
            seen=seen,
            false_regions=false_regions,
        ),
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
        ),
        tissue=outline,
        tissue_mm2=tissue_mm2,
        timings=timings,
    )


def _score_batches(
    batches: Iterator[Batch],
    model: ScoringModel,
    planned: NDArray[np.uint8],
    progress: Progress | None,
    timings: dict[str, float],
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]:
    """Judge the fields that can be judged; the rest keep NaN and their reason."""
    status = planned.copy()
    scores = {m: np.full(len(planned), np.nan, np.float32) for m in model.methods}
    done, network = 0, 0.0
    for indices, images, seen in ahead(batches, _QUEUED_BATCHES):
        found = seen.copy()
        good = found == Status.OK
        if good.any():
            start = time.perf_counter()
            batch = model.score_tiles(images if good.all() else images[good])
            network += time.perf_counter() - start
            finite = np.all([np.isfinite(batch[m]) for m in model.methods], axis=0)
            found[np.flatnonzero(good)[~finite]] = Status.FAILED
            for method, values in scores.items():
                values[indices[good]] = np.where(finite, batch[method], np.nan)
        status[indices] = found
        done += len(indices)
        if progress is not None:
            progress(done, len(planned))
    timings["network"] = network
    return status, scores
