"""The whole evaluation: results and truth in, figures and what a reader must know out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_anomaly.core.errors import SlideError, UsageError, WsiAnomalyError
from wsi_anomaly.core.wording import counted, some
from wsi_anomaly.evaluation.figures import COLOUR, Figures, JudgedSlide, compute
from wsi_anomaly.evaluation.folders import Result, read_results
from wsi_anomaly.evaluation.labels import ABNORMAL, NORMAL
from wsi_anomaly.evaluation.metrics import LEAST_GROUPS
from wsi_anomaly.evaluation.pictures import colour_scores, extremes, field_colours, field_picture
from wsi_anomaly.evaluation.tables import cases_of, read_labels, read_scores
from wsi_anomaly.evaluation.truth import SlideTruth, Truth
from wsi_anomaly.options import EvaluateOptions
from wsi_anomaly.viewer.folder import Results

SCORE = "score"
"""Name of the method of a table of scores."""

Watch = Callable[[str], None]


@dataclass(frozen=True)
class FieldPicture:
    """A field in the report: where it is, its score, and its pixels."""

    slide: str
    position: tuple[int, int]
    score: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that an evaluation found.

    Attributes
    ----------
    source
        What was evaluated: the results folder, or the table of scores.
    figures
        All figures.
    slides
        Scores beside the truth, those left out not among them.
    notes
        Sentences that a reader of the figures must know.
    problems
        Sentences about what could not be used.
    settings
        What was asked for; with the results and the truth it gives the figures again.
    model
        Name and hash; None for a table of scores.
    field_um
        Side of a field; None for a table.
    gallery
        Pictures of the most and least anomalous fields of each class; empty without slides.
    """

    source: Path
    figures: Figures
    slides: Sequence[JudgedSlide]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    settings: Mapping[str, Any]
    model: tuple[str, str] | None = None
    field_um: float | None = None
    gallery: Mapping[str, Sequence[FieldPicture]] = field(default_factory=dict)

    @property
    def noun(self) -> str:
        """What is judged: a field of a map, or a tile of a table."""
        return "tile" if self.model is None else "field"


def evaluate(
    results: str | Path | None, options: EvaluateOptions, *, watch: Watch = lambda _text: None
) -> Evaluation:
    """Hold results, or a table of scores from anywhere, against the truth.

    Parameters
    ----------
    results
        Folder of results; None: ``results/``, or the table that the options name.
    options
        Where the truth is, and what is asked for.
    watch
        Told what is being done.

    Raises
    ------
    WsiAnomalyError
        There is nothing to evaluate; the sentence says why.
    """
    if options.scores is None:
        return _evaluate_results(Path(results or "results"), options, watch)
    if results is not None:
        raise UsageError(
            "--scores brings its own labels; leave out RESULTS and the options about them."
        )
    return _evaluate_scores(Path(options.scores), options)


def _evaluate_results(folder: Path, options: EvaluateOptions, watch: Watch) -> Evaluation:
    """Hold the results of ``score`` against the truth."""
    found, problems = read_results(folder)
    case_of, about_cases = cases_of(found, options.cases)
    truth = Truth(
        None if options.labels is None else read_labels(options.labels, found),
        None if options.annotations is None else Path(options.annotations),
        tuple(options.classes),
        options.unannotated_normal,
    )
    truth.check(found)
    method = _method(found, options.method)
    known, judged, notes = _judge(found, truth, case_of, problems, watch)
    if not judged:
        raise WsiAnomalyError((problems or notes)[0])
    files = Results(folder, None if options.slides is None else Path(options.slides))
    try:
        judged, without = _with_colour(known, judged, files, method, watch)
    except SlideError as error:  # of a slide that is where it was
        problems.append(str(error))
        without = "No control by colour: not every slide can be read."
    watch("computing intervals")
    figures = compute(judged, method, specificities=options.specificities)
    notes += _notes(judged, figures)
    if without:
        notes.append(without)
    if truth.labels is not None and truth.labels.unknown:
        notes.append(
            f"{options.labels} also names slides without results: {some(truth.labels.unknown)}."
        )
    unseen = sorted(set(truth.classes) - truth.labels_found)
    if unseen and truth.labels_found:
        there = some(sorted(filter(None, truth.labels_found)))
        notes.append(f"No outline has the class {' or '.join(unseen)}; there are {there}.")
    notes += about_cases
    settings = {
        "labels": None if options.labels is None else str(options.labels),
        "annotations": None if options.annotations is None else str(options.annotations),
        "classes": list(options.classes),
        "unannotated_normal": options.unannotated_normal,
        "cases": options.cases is not None,
        "method": method,
        "specificities": list(options.specificities),
    }
    watch("reading pictures")
    return Evaluation(
        folder, figures, judged, tuple(notes), tuple(problems), settings,
        known[0].model, known[0].field_um, _gallery(known, judged, files, method),
    )  # fmt: skip


def _evaluate_scores(scores: Path, options: EvaluateOptions) -> Evaluation:
    """Evaluate a table of scores and labels from anywhere."""
    table = read_scores(scores)
    notes: list[str] = []
    without = table.label[np.isnan(table.score)]
    if len(without):
        notes.append(
            f"{len(without)} of {len(table.score)} lines have no score and are left out, "
            f"{int(without.sum())} of them abnormal."
        )
    if table.has_slides:
        judged = [
            _from_table(name, table.score[table.slide == name], table.label[table.slide == name])
            for name in np.unique(table.slide).tolist()
        ]
    else:
        judged = [_from_table("all", table.score, table.label)]
        notes.append(
            "The table names no slides: there are no intervals, because scores of one slide are "
            "alike and only slides can be left out; add a column slide."
        )
    figures = compute(judged, SCORE, specificities=options.specificities)
    if table.has_slides:
        notes += _notes(judged, figures)
    settings = {"specificities": list(options.specificities)}
    return Evaluation(scores, figures, judged, tuple(notes), (), settings)


def _from_table(name: str, scores: NDArray[np.float64], labels: NDArray[np.int8]) -> JudgedSlide:
    return JudgedSlide(name, name, labels, {SCORE: scores}, abnormal=bool(labels.any()))


def _method(found: Sequence[Result], method: str | None) -> str:
    there = list(found[0].table.scores)
    if method is None:
        return found[0].table.primary
    if method not in there:
        raise UsageError(
            f"The results hold no scores of {method!r}, only of {', '.join(there)}; give one of "
            "these as --method."
        )
    return method


def _judge(
    found: Sequence[Result],
    truth: Truth,
    cases: Mapping[str, str],
    problems: list[str],
    watch: Watch,
) -> tuple[list[Result], list[JudgedSlide], list[str]]:
    """Slides of which something is known, and sentences about the others."""
    known, judged = [], []
    seen: list[str] = []
    unknown: list[str] = []
    notes: list[str] = []
    for result in found:
        watch(f"comparing {result.name}")
        if result.seen is not None:
            seen.append(result.name)
            continue
        try:
            slide = truth.of(result, notes.append)
        except WsiAnomalyError as error:
            problems.append(str(error))
            continue
        if slide is None:
            unknown.append(result.name)
            continue
        known.append(result)
        judged.append(_judged(result, slide, cases))
        notes += _about(result, slide)
    if seen:
        notes.append(
            f"Left out, because the model has seen them in training or calibration: {some(seen)}."
        )
    if unknown:
        remedy = (
            " (--unannotated-normal takes slides without an annotation file for normal)"
            if truth.annotations is not None and not truth.unannotated_normal
            else ""
        )
        notes.append(f"Left out, because nothing is known of them: {some(unknown)}{remedy}.")
    return known, judged, notes


def _judged(result: Result, truth: SlideTruth, cases: Mapping[str, str]) -> JudgedSlide:
    table = result.table
    return JudgedSlide(
        name=result.name,
        case=cases.get(result.name, result.name),
        labels=truth.fields,
        raw=table.scores,
        smoothed={name: table.smoothed(scores) for name, scores in table.scores.items()},
        abnormal=truth.abnormal,
        lesions=truth.lesions,
        table=table,
    )


def _about(result: Result, truth: SlideTruth) -> list[str]:
    """Sentences about lesions that no figure of fields can know of."""
    table = result.table
    if not truth.lesions:
        return []
    x, y = table.coords[table.assessed].T
    fields = shapely.STRtree(shapely.box(x, y, x + table.field[0], y + table.field[1]))
    touched = np.unique(fields.query(truth.lesions, predicate="intersects")[0])
    missed = len(truth.lesions) - len(touched)
    if missed:
        sentence = (
            f"{result.name}: {missed} of {len(truth.lesions)} outlines lie where no field was "
            "assessed; the lesions in them count as missed."
        )
        return [sentence]
    if not (truth.fields[table.assessed] == ABNORMAL).any():
        sentence = (
            f"{result.name}: no outline covers half of a field, so none of its fields counts as "
            "abnormal."
        )
        return [sentence]
    return []


def _with_colour(
    known: Sequence[Result],
    judged: list[JudgedSlide],
    files: Results,
    method: str,
    watch: Watch,
) -> tuple[list[JudgedSlide], str]:
    """Add the colour control; without the slides, a sentence that says so."""
    classes = {int(label) for slide in judged for label in np.unique(slide.labels)}
    if not {NORMAL, ABNORMAL} <= classes:
        return judged, ""  # no figure of fields, so no control of one
    colours = {}
    for result, slide in zip(known, judged, strict=True):
        watch(f"reading the colours of {slide.name}")
        try:
            opened = files.slide(result.name)
        except SlideError:
            raise
        except WsiAnomalyError:
            return judged, (
                f"The slide {result.slide_path.name} is not where it was scored: no control by "
                "colour, and no pictures of it (--slides FOLDER says where the slides are)."
            )
        colours[slide.name] = field_colours(opened, result.table, result.field_um)
        files.release(result.name)
    scores = colour_scores(judged, method, colours)
    if scores is None:
        return judged, (
            "No control by colour: it needs normal fields on slides of at least two cases."
        )
    return [
        replace(
            slide,
            raw={**slide.raw, COLOUR: scores[slide.name]},
            smoothed={
                **(slide.smoothed or {}),
                COLOUR: result.table.smoothed(scores[slide.name]),
            },
        )
        for result, slide in zip(known, judged, strict=True)
    ], ""


def _gallery(
    known: Sequence[Result], judged: Sequence[JudgedSlide], files: Results, method: str
) -> dict[str, list[FieldPicture]]:
    out: dict[str, list[FieldPicture]] = {}
    for row, places in extremes(judged, method).items():
        for place in places:
            result = known[place.slide]
            try:
                slide = files.slide(result.name)
            except WsiAnomalyError:
                continue
            pixels = field_picture(slide, result.table, place.field, result.field_um)
            files.release(result.name)
            if pixels is not None:
                x, y = (int(v) for v in result.table.coords[place.field])
                shown = FieldPicture(result.name, (x, y), place.score, pixels)
                out.setdefault(row, []).append(shown)
    return out


def _notes(judged: Sequence[JudgedSlide], figures: Figures) -> list[str]:
    notes = []
    cases = len({slide.case for slide in judged})
    if cases < LEAST_GROUPS:
        notes.append(
            f"No intervals: they need at least {LEAST_GROUPS} slides or cases, "
            f"here {'is' if cases == 1 else 'are'} {cases}."
        )
    elif figures.raw and np.isnan(figures.raw[figures.method].roc_auc.low):
        notes.append(
            "No intervals for fields: those of one class come from fewer than "
            f"{LEAST_GROUPS} slides or cases."
        )
    if not figures.raw:
        notes.append("Fields of only one class are known: figures are of slides alone.")
    if not figures.slides:
        notes.append("Slides of only one class are known: no figures of slides.")
    if figures.small_lesions:
        notes.append(
            f"In the FROC {counted(figures.small_lesions, 'lesion')} smaller than 200 µm "
            "count neither as found nor as missed."
        )
    return notes
