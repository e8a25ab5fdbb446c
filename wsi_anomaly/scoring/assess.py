"""Fields of a slide to raw scores: the one loop, for new slides and for calibration.

A model's methods look at a field in two ways. Some judge *tiles*, cut out one by one; some judge
*fields of any size* round a cell, pooled from one pass of the network over the slide's plane. Both
give each cell one score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.magnification import mpp_of
from wsi_anomaly.core.prefetch import prefetch
from wsi_anomaly.jobs import Progress
from wsi_anomaly.jobs.progress import unwatched
from wsi_anomaly.scoring.highest import HighestFields
from wsi_anomaly.scoring.model import ScoringModel
from wsi_anomaly.slides import Slide, TissueMap
from wsi_anomaly.tiles import Fields, SlidePreprocessor, Status, read_fields
from wsi_anomaly.tiles.plane import SlidePlane
from wsi_anomaly.tiles.sharpness import amid_blur, sharpness

BATCH_SIZE = 256
_SHARPNESS_STEP = 8  # every so many fields: the median needs no more
_QUEUED_BATCHES = 4  # bounds the memory; more only hides longer stalls of the disk
Keep = Callable[[Fields, NDArray[np.float32], NDArray[np.float32]], None]
"""Takes cells, the embeddings (n, D) of the largest fields round them, and their shares (n,)."""
Batch = tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Assessed:
    """What became of N fields.

    Attributes
    ----------
    status
        (N,) uint8, :class:`~wsi_anomaly.tiles.Status` after reading.
    scores
        Raw scores per method, (N,) float32, NaN where not assessed.
    kept
        (N,) bool, False where a field has too little tissue left to be one at all.
    sharpness
        Median over the assessed fields, NaN without any.
    place
        (k,) mean place of its fields in the model's space, empty where it has none.
    network_seconds
        Time spent in the networks.
    """

    status: NDArray[np.uint8]
    scores: dict[str, NDArray[np.float32]]
    kept: NDArray[np.bool_]
    sharpness: float
    place: NDArray[np.float64]
    network_seconds: float


def assess_fields(
    slide: Slide,
    tissue: TissueMap,
    fields: Fields,
    model: ScoringModel,
    preprocess: SlidePreprocessor,
    *,
    min_tissue: float,
    progress: Progress | None = None,
    keep: Keep | None = None,
    highest: HighestFields | None = None,
) -> Assessed:
    """Judge the fields that can be judged; the rest keep NaN and their reason.

    Parameters
    ----------
    slide, tissue, fields
        The open slide, its tissue map, and N cells of it; masked ones are not looked at.
    model
        Judges each with every method.
    preprocess
        Brings the slide's pixels to the model's stains.
    min_tissue
        Least share of tissue in a field round a cell.
    progress
        Called with fields done and fields in all.
    keep, highest
        Given the embeddings of fields as they are judged.
    """
    report = progress or unwatched
    ways = bool(model.tile_methods) + bool(model.fields_um)
    looked_at = np.flatnonzero(fields.status != Status.MASKED)
    total, found = len(looked_at) * ways, _Found(fields, model.methods)
    if model.tile_methods:
        _judge_tiles(slide, looked_at, model, preprocess, found, lambda n: report(n, total))
    if model.fields_um:
        before = total - len(looked_at)
        plane = SlidePlane(slide, tissue, model.magnification, preprocess)

        def say(done: int, cells: int) -> None:
            report(before + done * len(looked_at) // max(cells, 1), total)

        _judge_fields(plane, model, found, min_tissue, say, keep, highest)
    return found.assessed()


class _Found:
    """What is known so far of the fields of a slide."""

    def __init__(self, fields: Fields, methods: tuple[str, ...]) -> None:
        self.fields = fields
        self.status = fields.status.copy()
        self.scores = {m: np.full(len(fields), np.nan, np.float32) for m in methods}
        self.kept = np.ones(len(fields), bool)
        self.sharp: list[NDArray[np.float32]] = []
        self.places: list[NDArray[np.floating]] = []
        self.seconds = 0.0

    def put(self, indices: NDArray[np.intp], batch: dict[str, NDArray[np.floating]]) -> None:
        """Take the scores of some fields; those that are no numbers have failed."""
        finite = np.all([np.isfinite(values) for values in batch.values()], axis=0)
        self.status[indices[~finite]] = Status.FAILED
        for method, values in batch.items():
            self.scores[method][indices] = values

    def assessed(self) -> Assessed:
        self.status[amid_blur(self.fields, self.status)] = Status.BLURRED
        good = self.status == Status.OK
        for values in self.scores.values():
            values[~good] = np.nan
        sharp = np.concatenate(self.sharp) if self.sharp else np.empty(0, np.float32)
        sharp = sharp[np.isfinite(sharp)]
        return Assessed(
            self.status,
            self.scores,
            self.kept,
            float(np.median(sharp)) if len(sharp) else float("nan"),
            np.concatenate(self.places).mean(0, dtype=float) if self.places else np.empty(0),
            self.seconds,
        )


def _judge_tiles(
    slide: Slide,
    looked_at: NDArray[np.intp],
    model: ScoringModel,
    preprocess: SlidePreprocessor,
    found: _Found,
    report: Callable[[int], None],
) -> None:
    """Read, normalise and judge every tile, each stage while the others work."""
    done = 0
    batches = read_tiles(slide, found.fields.take(looked_at), model, preprocess)
    for positions, images, seen in prefetch(batches, _QUEUED_BATCHES):
        indices = looked_at[positions]
        found.status[indices] = seen
        good = seen == Status.OK
        if good.any():
            judged = images if good.all() else images[good]
            found.sharp.append(sharpness(judged[::_SHARPNESS_STEP], mpp_of(model.magnification)))
            start = time.perf_counter()
            batch = model.score_tiles(judged)
            found.seconds += time.perf_counter() - start
            found.put(indices[good], dict(batch))
        done += len(indices)
        report(done)


def _judge_fields(
    plane: SlidePlane,
    model: ScoringModel,
    found: _Found,
    min_tissue: float,
    report: Callable[[int, int], None],
    keep: Keep | None,
    highest: HighestFields | None,
) -> None:
    """Run the network over the plane and judge the fields round every cell."""
    from wsi_anomaly.scoring.embedding import embed_cells  # heavy: only models of fields pay

    start = time.perf_counter()
    without = found.fields.status == Status.OK
    for part in embed_cells(
        plane, found.fields, model.dense_maps(), model.fields_um, progress=report
    ):
        enough = part.shares >= min_tissue
        without[part.indices[enough]] = False
        embeddings = {um: values[enough] for um, values in part.embeddings.items()}
        batch = dict(model.score_fields(embeddings, part.shares[enough]))
        found.put(part.indices[enough], batch)
        if highest is not None and model.primary in batch:
            highest.add(part.indices[enough], batch[model.primary], embeddings)
        if keep is not None:
            largest = embeddings[max(model.fields_um)]
            keep(found.fields.take(part.indices[enough]), largest, part.shares[enough])
        places = model.place_fields(embeddings)
        if places is not None and len(places):
            found.places.append(places)
    judged = plane.status_of(found.fields)
    worse = (judged != Status.OK) & (found.status == Status.OK)
    found.status[worse] = judged[worse]
    found.kept[without & (found.status == Status.OK)] = False
    found.sharp.append(plane.sharpness_of(found.fields))
    found.seconds += time.perf_counter() - start


def read_tiles(
    slide: Slide, fields: Fields, model: ScoringModel, preprocess: SlidePreprocessor
) -> Iterator[Batch]:
    """Read the tile of each field: its own pixels, or more round a cell that is smaller."""
    mpp = mpp_of(model.magnification)
    um = model.tile_size * mpp
    if fields.field_um < um and model.fields_um:
        beyond = (um - fields.field_um) / 2
        margin = np.array([beyond / slide.mpp.x, beyond / slide.mpp.y])
        fields = replace(fields, coords=np.floor(fields.coords - margin + 0.5).astype(np.int64))
    return read_fields(
        slide,
        fields,
        magnification=model.magnification,
        tile_size=model.tile_size,
        preprocess=preprocess,
        batch_size=BATCH_SIZE,
    )
