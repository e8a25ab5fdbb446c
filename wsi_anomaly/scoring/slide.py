"""Score one slide: read, normalise and judge every field, each stage while the others work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.calibration import Calibration
from wsi_anomaly.core.errors import NoTissueError, TooCoarseError
from wsi_anomaly.core.magnification import mpp_of, serves
from wsi_anomaly.jobs import Progress
from wsi_anomaly.options import Origin, ScoreOptions
from wsi_anomaly.scoring.assess import Assessed, Keep, assess_fields, read_tiles
from wsi_anomaly.scoring.beside import OnPlane, beside_normal
from wsi_anomaly.scoring.controls import Controls
from wsi_anomaly.scoring.domain import domain_warnings, less_sharp, measures
from wsi_anomaly.scoring.highest import HighestFields
from wsi_anomaly.scoring.interpretation import Interpretation, interpret
from wsi_anomaly.scoring.known import beside_known, field_likeness
from wsi_anomaly.scoring.model import (
    ALONE,
    LIMITS,
    ScoringModel,
    facts_of,
    grid_of,
    mask_of,
    normal_of,
    scoring_settings,
)
from wsi_anomaly.scoring.score_map import ScoreMap, SlideFacts
from wsi_anomaly.scoring.top_fields import PixelMaps, fields_to_map
from wsi_anomaly.slides import Mpp, Slide, TissueMap, find_tissue, open_slide
from wsi_anomaly.slides.overview import read_overview
from wsi_anomaly.tiles import (
    Fields,
    Preprocessing,
    SlidePreprocessor,
    Status,
    plan_fields,
)
from wsi_anomaly.tiles.inputs import marked_areas, tissue_from_file
from wsi_anomaly.tiles.named import Note
from wsi_anomaly.tiles.plane import SlidePlane

_OTHER_STRIDE = (
    "No field is flagged and scores are raw: cells of {:g} um were asked for, the reference has "
    "cells of {:g} um; leave --stride out to compare."
)

_NO_CONTROLS = (
    "No field is flagged and scores are raw: there is no control animal to compare this slide with."
)


def score_slide(
    path: str | Path | Slide,
    model: ScoringModel,
    options: ScoreOptions | None = None,
    *,
    controls: Controls | None = None,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> ScoreMap:
    """Score every field of tissue of a slide.

    Parameters
    ----------
    path
        The slide; one that is open already stays open, with its own `mpp` and `backend`.
    model
        A loaded model; it decides magnification, field size and preprocessing.
    options
        What is looked at, and what is flagged.
    controls
        Concurrent controls, in place of the model's own calibration slides.
    progress, keep
        Called with fields done and fields in all, after every batch; given the embeddings.

    Raises
    ------
    SlideError
        The slide cannot be opened, has no mpp, no tissue, or is too coarse for the model.
    AnnotationError, ModelError
        The tissue mask, or the scores of the controls, cannot be read, or are of another slide.
    """
    options, highest = options or ScoreOptions(), HighestFields()
    timings, told = dict[str, float](), _Told([], [])
    with _opened(path, options) as slide:
        check_pixels(slide, model)
        facts = SlideFacts.of(slide)
        with _timed(timings, "tissue and stain"):
            tissue = tissue_of(slide, *_mask(slide, options), note=told.left_out.append)
            fields = _plan(slide, tissue, model, options)
            preprocess = Preprocessing.from_dict(model.preprocessing).for_slide(slide, tissue)
            plane = SlidePlane(slide, tissue, model.magnification, preprocess)
        model = _of_slide(model, slide, plane, fields, options, timings, told)
        with _timed(timings, "read and score"):
            found = assess_fields(
                slide, tissue, fields, model, preprocess,
                min_tissue=options.min_tissue, progress=progress, keep=keep, highest=highest,
            )  # fmt: skip
            kept = _kept(found, slide, options.min_tissue)
            fields, status = fields.take(kept), found.status[kept]
            scores = {method: values[kept] for method, values in found.scores.items()}
        with _timed(timings, "interpretation"):
            reference = Reference.of(model, facts, controls, options.stride_um)
            unlike = [*_not_looked_at(slide, fields, options), *told.left_out]
            unlike += _unlike_training(slide, model, preprocess, found)
            score, soft = scores[model.primary], _soft(model, found)
            meaning = reference.interpret(fields, score, facts.mpp, options, unlike, soft)
            directions = partial(field_likeness, plane, fields, model)
            meaning = beside_known(meaning, directions, model, all_flags=options.all_flags)
            sight = OnPlane(plane, fields, model, highest.embeddings(kept))
            beside = beside_normal(meaning, sight, fields, model, scores, reference.usable)
            maps = _pixel_maps(slide, fields, score, meaning, options, model, preprocess)
    return ScoreMap(
        slide=facts,
        fields=fields,
        status=status,
        scores=scores,
        primary=model.primary,
        interpretation=_with_sentences(meaning, preprocess, told.notices),
        calibration=reference.calibration,
        seen=reference.seen,
        model=facts_of(model),
        settings=scoring_settings(slide.path, model, options, controls),
        tissue=tissue.polygons(),
        tissue_mm2=tissue.area_mm2(),
        sparse_mm2=_sparse_mm2(tissue, fields),
        timings=timings | {"network": found.network_seconds},
        measured=measures(preprocess, found.sharpness, score, found.place),
        pixel_maps=maps,
        beside=beside,
    )


class _Told(NamedTuple):
    """What the reader is to know of how a slide was looked at."""

    left_out: list[str]
    notices: list[str]


def _of_slide(
    model: ScoringModel,
    slide: Slide,
    plane: SlidePlane,
    fields: Fields,
    options: ScoreOptions,
    timings: dict[str, float],
    told: _Told,
) -> ScoringModel:
    """Let a model learn from this slide: all, if it has seen no other; or what is marked normal."""
    if (normal := normal_of(slide.path, options)) is not None:
        from wsi_anomaly.scoring.own import knowing_normal  # heavy, as all that computes

        with _timed(timings, "marked normal tissue"):
            marked = marked_areas(slide, normal, options.origin, told.left_out.append)
            return knowing_normal(model, plane, fields, marked, normal, told.notices.append)
    if model.name != ALONE:
        return model
    from wsi_anomaly.scoring.alone import SlideAlone

    with _timed(timings, "learning"):
        # Anybody may call a model folder so.
        if isinstance(model, SlideAlone):
            return model.learned(plane, fields, options.min_tissue)
        return model


def _kept(found: Assessed, slide: Slide, min_tissue: float) -> NDArray[np.intp]:
    """Positions of the fields with enough tissue."""
    kept = np.flatnonzero(found.kept)
    if not len(kept):
        raise NoTissueError(
            f"No field on {slide.path} has at least {min_tissue:.0%} tissue; look at it, or lower "
            "--min-tissue."
        )
    return kept


def _unlike_training(
    slide: Slide, model: ScoringModel, preprocess: SlidePreprocessor, found: Assessed
) -> list[str]:
    """Say in what the slide differs from those that the model was trained on."""
    return domain_warnings(
        model.domain, preprocessor=preprocess, mpp=slide.finest_mpp, sharpness=found.sharpness
    )


def _with_sentences(
    meaning: Interpretation, preprocess: SlidePreprocessor, notices: Sequence[str]
) -> Interpretation:
    """Say before anything else that the colours cannot be H&E, and what was marked."""
    first = [preprocess.doubt] if preprocess.doubt else []
    return replace(meaning, warnings=[*first, *meaning.warnings], notices=tuple(notices))


def _not_looked_at(slide: Slide, fields: Fields, options: ScoreOptions) -> list[str]:
    """Say what is not looked at."""
    found = [f"Not all of the file is looked at: {part}." for part in slide.left_out]
    if options.tissue_mask is not None:
        found.append(_mask_warning(fields, slide.mpp))
    return found


def _sparse_mm2(tissue: TissueMap, fields: Fields) -> float:
    """Area of tissue that no field stands for."""
    width, height = np.maximum(fields.field_level0, fields.stride_level0).tolist()
    return tissue.outside_mm2(fields.coords, (width, height))


def _soft(model: ScoringModel, found: Assessed) -> list[str]:
    """Say that the slide is less sharp than what it is compared with, if it is."""
    return [] if model.name in LIMITS else less_sharp(model.domain, found.sharpness)


def _opened(path: str | Path | Slide, options: ScoreOptions) -> AbstractContextManager[Slide]:
    if isinstance(path, Slide):
        return nullcontext(path)
    return open_slide(path, mpp=options.mpp, backend=options.backend, scene=options.scene)


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - start


def check_pixels(slide: Slide, model: ScoringModel) -> None:
    """See that a slide has the detail that a model looks at.

    Raises
    ------
    TooCoarseError
        It has not.
    """
    if not serves(slide.finest_mpp, model.magnification):
        raise TooCoarseError(
            f"{slide.path} has {slide.finest_mpp:.3g} um per pixel at its finest, too coarse for "
            f"this model, which looks at {model.magnification}x "
            f"({mpp_of(model.magnification):g} um); use a scan of a higher magnification."
        )


def _plan(slide: Slide, tissue: TissueMap, model: ScoringModel, options: ScoreOptions) -> Fields:
    """Find the fields to look at, those that are masked among them."""
    fields = plan_fields(
        slide,
        tissue,
        **grid_of(model, options.stride_um),
        min_tissue=options.min_tissue,
        max_tiles=None,
    )
    if (fields.status == Status.MASKED).all():
        raise NoTissueError(
            f"No tissue was found on {slide.path}; look at it, or lower --min-tissue."
        )
    return fields


@dataclass(frozen=True)
class Reference:
    """What a slide is compared with, and whether the model has seen it."""

    calibration: Calibration | None
    seen: str | None
    uncalibrated: str | None = None

    @property
    def usable(self) -> Calibration | None:
        """What the slide may be compared with."""
        return None if self.seen else self.calibration

    @classmethod
    def of(
        cls,
        model: ScoringModel,
        facts: SlideFacts,
        controls: Controls | None,
        stride_um: float | None,
    ) -> Reference:
        """Say what it is of a slide: the model's own, or its concurrent controls."""
        seen = model.seen.get(facts.fingerprint)
        usual = grid_of(model, None)["stride_um"]
        if model.fields_um and stride_um not in (None, usual):
            # Maps of other cells have other maxima and regions.
            return cls(None, seen, _OTHER_STRIDE.format(stride_um, usual))
        if controls is None:
            alone = LIMITS.get(model.name)
            return cls(model.calibration.get(model.primary), seen, alone)
        # The model has not learned from its calibration slides, and they are not in use now.
        seen = None if seen == "calibration" else seen
        return cls(controls.calibration(), seen, _NO_CONTROLS)

    def interpret(
        self,
        fields: Fields,
        score: NDArray[np.float32],
        mpp: Mpp,
        options: ScoreOptions,
        warnings: list[str],
        incomparable: list[str],
    ) -> Interpretation:
        """Say what raw scores (N,) mean; see :func:`interpret`."""
        return interpret(
            fields,
            score,
            self.calibration,
            mpp=(mpp.x, mpp.y),
            seen=self.seen,
            false_regions=options.false_regions,
            fdr=options.fdr,
            uncalibrated=self.uncalibrated,
            domain_warnings=warnings,
            incomparable=incomparable,
        )


def _mask(slide: Slide, options: ScoreOptions) -> tuple[Path | None, Origin]:
    return mask_of(slide.path, options), options.origin


def tissue_of(
    slide: Slide, mask: Path | None, origin: Origin = "bounds", *, note: Note = lambda _text: None
) -> TissueMap:
    """Find the tissue; what a mask leaves out of it is MASKED.

    Raises
    ------
    AnnotationError
        The mask cannot be read, or was made for something else.
    """
    if mask is None:
        return find_tissue(slide)
    overview = read_overview(slide)
    given = tissue_from_file(slide, mask, overview, origin, note=note)
    return given.with_masked(find_tissue(slide, overview))


def _mask_warning(fields: Fields, mpp: Mpp) -> str:
    share = fields.tissue_fraction[fields.status == Status.MASKED].sum()
    masked = float(share) * fields.area_mm2((mpp.x, mpp.y))
    return (
        f"The tissue was given by a mask: nothing outside it was looked at ({masked:.2f} mm2 of "
        "tissue), and silence there does not mean normal."
    )


def _pixel_maps(
    slide: Slide,
    fields: Fields,
    score: NDArray[np.float32],
    meaning: Interpretation,
    options: ScoreOptions,
    model: ScoringModel,
    preprocess: SlidePreprocessor,
) -> PixelMaps | None:
    """Read some fields once more, for their error maps; those that cannot be read are left out."""
    if not model.tile_methods:
        return None
    chosen = fields_to_map(
        fields, score, meaning.smoothed, meaning.flagged,
        all_flagged=options.pixel_map, tile_size=model.tile_size,
    )  # fmt: skip
    kept, tiles, maps = [], [], []
    for indices, images, status in read_tiles(slide, fields.take(chosen), model, preprocess):
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
