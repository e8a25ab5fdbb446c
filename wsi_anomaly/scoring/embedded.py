"""Score a slide by embeddings that another program has made of its fields."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration.shift import AXIS
from wsi_anomaly.core.errors import EmbeddingsError, ModelError
from wsi_anomaly.core.prefetch import prefetch
from wsi_anomaly.detectors.encoder import Encoder, learned_from_embeddings
from wsi_anomaly.embeddings import Embeddings, EmbeddingsFile, Gridded, StandIn, on_grid
from wsi_anomaly.jobs import Progress
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.scoring.beside import beside_normal
from wsi_anomaly.scoring.in_file import InFile
from wsi_anomaly.scoring.known import beside_known
from wsi_anomaly.scoring.model import ScoringModel, facts_of, grid_of, scoring_settings
from wsi_anomaly.scoring.regions import union_of_fields
from wsi_anomaly.scoring.score_map import ScoreMap, SlideFacts
from wsi_anomaly.scoring.slide import Reference
from wsi_anomaly.slides import Mpp, Slide, TissueMap, find_tissue
from wsi_anomaly.tiles import Fields, Status

_SIZE_TOLERANCE = 1.1
_STEP_TOLERANCE = 1.1
_UNCOVERED_MM2 = 0.05
_QUEUED = 2  # blocks, read while others are scored


@dataclass(frozen=True, eq=False)
class Judged:
    """Raw scores of embedded fields.

    Attributes
    ----------
    gridded
        N fields, in the order of the file.
    scores
        By method that judges fields, (N,) float32.
    place
        (k,) mean place in the model's space, empty where it has none.
    """

    gridded: Gridded
    scores: Mapping[str, NDArray[np.float32]]
    place: NDArray[np.float64]


def check_kind(model: ScoringModel, *, given: bool, asked: bool = False) -> None:
    """See that a model is given what it looks at: pixels, or embeddings.

    Parameters
    ----------
    model
        What it was loaded as.
    given, asked
        Whether embeddings are given, and whether they are to be written.

    Raises
    ------
    ModelError, EmbeddingsError
        It is not.
    """
    if given or asked:
        Encoder.of(model)
    if not given and learned_from_embeddings(model):
        raise ModelError(
            f"The model {model.name} has learned from embeddings, and sees no pixels; give those "
            "of the slides with --embeddings FOLDER."
        )


def encoder_for(model: ScoringModel) -> Encoder:
    """Say who makes the embeddings that a model judges; see :meth:`Encoder.of`."""
    return Encoder.of(model)


def check_fits(found: Embeddings, model: ScoringModel, mpp: Mpp) -> None:
    """See that embeddings are of the encoder that a model has learned from.

    Raises
    ------
    EmbeddingsError
        They are of another encoder, width, or size of field.
    """
    encoder = Encoder.of(model)
    if encoder.name and found.encoder and encoder.name != found.encoder:
        raise EmbeddingsError(
            f"{found.path} holds embeddings of {found.encoder}, and the model {model.name} has "
            f"learned from those of {encoder.name}; give embeddings of the same encoder."
        )
    if found.width != encoder.width:
        raise EmbeddingsError(
            f"{found.path} holds embeddings of {found.width} numbers, and the model {model.name} "
            f"has learned from those of {encoder.width}; give embeddings of the same encoder."
        )
    um = field_um(found, mpp)
    if not 1 / _SIZE_TOLERANCE <= um / encoder.field_um <= _SIZE_TOLERANCE:
        raise EmbeddingsError(
            f"{found.path} holds fields of {um:.4g} um, and the model {model.name} has learned "
            f"from fields of {encoder.field_um} um; embed fields of the same size."
        )


def check_step(found: Embeddings, model: ScoringModel, mpp: Mpp) -> None:
    """See that embedded fields lie as far apart as those that a model's scores are compared with.

    Raises
    ------
    EmbeddingsError
        They do not: maps of other cells have other maxima and regions.
    """
    step, usual = found.step_level0 * mpp.x, grid_of(model, None)["stride_um"]
    if not _near(step, usual):
        raise EmbeddingsError(
            f"{found.path} has a field every {step:.4g} um, and the model {model.name} one every "
            f"{usual:.4g} um; embed with the same overlap."
        )


def _near(step_um: float, usual_um: float) -> bool:
    return 1 / _STEP_TOLERANCE <= step_um / usual_um <= _STEP_TOLERANCE


@contextmanager
def opened_for(
    file: EmbeddingsFile, slide: Slide | None, model: ScoringModel, mpp: float | None
) -> Iterator[tuple[Embeddings, Mpp]]:
    """Open those of a slide's embeddings that a model judges, with the size of a pixel.

    Parameters
    ----------
    file, slide
        The embeddings, and the slide that they must be of; None: it is not at hand.
    model
        Says which encoder is wanted.
    mpp
        Micrometres per level-0 pixel, over what slide and file say.

    Raises
    ------
    EmbeddingsError
        The file is damaged, does not fit the slide, or nothing says how large a pixel is.
    """
    with file.open(Encoder.of(model).name or None) as found:
        if slide is not None:
            found.check_slide(slide)
        yield found, Mpp(mpp, mpp, "--mpp") if mpp else found.pixel_size(slide)


def field_um(found: Embeddings, mpp: Mpp) -> float:
    """Side of an embedded field, um: as its maker meant it, else as the pixels say."""
    return found.field_um or found.field_level0 * mpp.x


def judge(
    found: Embeddings, model: ScoringModel, mpp: Mpp, progress: Progress | None = None
) -> Judged:
    """Give each embedded field its raw scores.

    Raises
    ------
    EmbeddingsError
        The embeddings do not fit the model, are not finite, or lie on no grid.
    """
    check_fits(found, model, mpp)
    gridded, [um] = on_grid(found, mpp), model.fields_um
    scores: dict[str, NDArray[np.float32]] = {}
    places: list[tuple[int, NDArray[np.floating]]] = []
    for rows, values in prefetch(found.blocks(), _QUEUED):
        shares = found.shares[rows] if found.shares is not None else np.ones(len(values), "f4")
        for name, part in model.score_fields({um: values}, shares).items():
            scores.setdefault(name, np.empty(len(found), np.float32))[rows] = part
        place = model.place_fields({um: values})
        if place is not None and len(place):
            places.append((len(place), place.mean(0, dtype=float)))
        if progress is not None:
            progress(rows.stop, len(found))
    mean = np.empty(0)
    if places:
        mean = np.average([p for _, p in places], 0, [n for n, _ in places])
    return Judged(gridded, scores, mean)


def measures_of(score: NDArray[np.floating], place: NDArray[np.floating]) -> dict[str, float]:
    """Put an embedded slide into a few numbers, as ``domain.measures`` does with pixels.

    Of its raw scores (N,), and where its tissue lies in the model's space (k,).
    """
    low, median, high = (float(v) for v in np.quantile(score, (0.25, 0.5, 0.75)))
    axes = {f"{AXIS}{i}": float(value) for i, value in enumerate(place, start=1)}
    return {"median score": median, "spread of scores": high - low} | axes


def score_embedded(
    file: EmbeddingsFile,
    slide: Slide | None,
    model: ScoringModel,
    options: ScoreOptions,
    *,
    progress: Progress | None = None,
) -> tuple[ScoreMap, Slide]:
    """Score a slide by its embeddings.

    Parameters
    ----------
    file
        The embeddings.
    slide
        The open slide; None: it is not at hand.
    model, options
        As for :func:`~wsi_anomaly.scoring.slide.score_slide`.
    progress
        Called with fields done and fields in all.

    Returns
    -------
    What was found, and what its pictures are made of: the slide, or what stands in for it.

    Raises
    ------
    EmbeddingsError
        The file is damaged, or does not fit the slide or the model.
    """
    start = time.perf_counter()
    with opened_for(file, slide, model, options.mpp) as (found, mpp):
        judged = judge(found, model, mpp, progress)
        size = found.slide_size or _reach(found)
        kept = judged.gridded.highest(judged.scores[model.primary])
        fields = judged.gridded.fields.take(kept)
        scores = {name: values[kept] for name, values in judged.scores.items()}
        seconds = {"read and score": time.perf_counter() - start}
        pictured = slide or StandIn(file.path, file.name, size, mpp, fields)
        tissue = _Tissue.of(slide, fields, mpp)
        notes = [*_notes(found, judged.gridded, model), *tissue.notes]
        fields = tissue.fields
        facts = SlideFacts.of(pictured, None if slide else file.fingerprint)
        near = _near(fields.field_um, grid_of(model, None)["stride_um"])
        reference = Reference.of(model, facts, None, None if near else fields.field_um)
        # Either may be what the model has learned from: the slide, or its embeddings.
        reference = replace(reference, seen=reference.seen or model.seen.get(file.fingerprint))
        start = time.perf_counter()
        meaning = reference.interpret(fields, scores[model.primary], mpp, options, notes, [])
        sight = InFile(found, kept, model, slide, fields)
        meaning = beside_known(meaning, sight.directions, model, all_flags=options.all_flags)
        beside = beside_normal(meaning, sight, fields, model, scores, reference.usable)
        seconds["interpretation"] = time.perf_counter() - start
    return ScoreMap(
        slide=facts,
        fields=fields,
        status=fields.status,
        scores=scores,
        primary=model.primary,
        interpretation=meaning,
        calibration=reference.calibration,
        seen=reference.seen,
        model=facts_of(model) | {"methods": list(scores)},
        settings=embedded_settings(file, model, options),
        tissue=tissue.outline,
        tissue_mm2=tissue.area_mm2,
        sparse_mm2=tissue.uncovered_mm2,
        timings=seconds,
        measured=measures_of(scores[model.primary], judged.place),
        beside=beside,
    ), pictured


def embedded_settings(
    file: EmbeddingsFile, model: ScoringModel, options: ScoreOptions
) -> dict[str, Any]:
    """Options that decide the result of embeddings, and which these are.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    found: dict[str, Any] = dict(scoring_settings(file.path, model, options))
    return found | {"embeddings": file.fingerprint}


def _reach(found: Embeddings) -> tuple[int, int]:
    """Width and height that hold all fields."""
    x, y = np.ceil(found.coords.max(0) + found.field_level0).astype(int).tolist()
    return max(1, x), max(1, y)


def _notes(found: Embeddings, gridded: Gridded, model: ScoringModel) -> list[str]:
    out = []
    if not (found.encoder and Encoder.of(model).name):
        out.append(
            "Nothing says which encoder has made the embeddings that were scored, or those that "
            "the model has learned from: that they are the same is for you to know."
        )
    shared = len(found) - len(np.unique(gridded.cell))
    if gridded.moved:
        lie = f"{gridded.moved} of {len(found)} embedded fields lie off the grid of the others and"
        out.append(
            f"{lie} are shown in the nearest cell, up to half a field away"
            + (f"; {shared} share one, and the highest score is shown." if shared else ".")
        )
    return out


@dataclass(frozen=True, eq=False)
class _Tissue:
    """Tissue of a slide beside what was embedded of it."""

    fields: Fields
    outline: Any
    area_mm2: float
    uncovered_mm2: float
    notes: list[str]

    @classmethod
    def of(cls, slide: Slide | None, fields: Fields, mpp: Mpp) -> _Tissue:
        """Find it; without the slide, it is what was embedded."""
        from shapely.geometry import MultiPolygon, Polygon

        if slide is None:
            outline = union_of_fields(fields, np.arange(len(fields)))
            if isinstance(outline, Polygon):
                outline = MultiPolygon([outline])
            note = (
                "The slide was not at hand: its pixels were not looked at, there are no pictures "
                "of it, and tissue that was not embedded is not counted; silence there does not "
                "mean normal."
            )
            area = len(fields) * fields.area_mm2((mpp.x, mpp.y))
            return cls(fields, outline, area, 0.0, [note])
        tissue: TissueMap = find_tissue(slide)
        shares = tissue.fractions(fields.coords, fields.field_level0)
        fields = replace(fields, tissue_fraction=1 - shares[:, 0])
        uncovered = tissue.outside_mm2(fields.coords, fields.field_level0)
        notes = []
        if uncovered > _UNCOVERED_MM2:
            notes.append(
                f"{uncovered:.2f} mm2 of tissue was not embedded and so not looked at; silence "
                "there does not mean normal."
            )
        assert (fields.status == Status.OK).all()
        return cls(fields, tissue.polygons(), tissue.area_mm2(), uncovered, notes)
