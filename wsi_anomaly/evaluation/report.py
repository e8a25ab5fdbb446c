"""``evaluation.json`` and ``evaluation.html``: every figure for programs, and for people."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from wsi_anomaly import __version__
from wsi_anomaly.core.files import write_json, write_text
from wsi_anomaly.evaluation.charts import (
    Chart,
    Series,
    froc_chart,
    pr_chart,
    roc_chart,
    score_chart,
)
from wsi_anomaly.evaluation.figures import (
    COLOUR,
    LESIONS_APART_UM,
    SMALLEST_LESION_UM,
    Figures,
    SlideRow,
)
from wsi_anomaly.evaluation.metrics import Estimate, Performance
from wsi_anomaly.evaluation.pictures import as_uri
from wsi_anomaly.evaluation.run import Evaluation

FORMAT = "wsi-anomaly-evaluation"
VERSION = 1
JSON_NAME, HTML_NAME = "evaluation.json", "evaluation.html"


def write_evaluation(folder: str | Path, evaluation: Evaluation) -> Path:
    """Write ``evaluation.json`` and ``evaluation.html``.

    Returns
    -------
    pathlib.Path
        ``evaluation.html``.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    folder = Path(folder)
    write_json(folder / JSON_NAME, as_json(evaluation))
    write_text(folder / HTML_NAME, as_html(evaluation))
    return folder / HTML_NAME


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {name: _number(value) for name, value in asdict(estimate).items()}


def _performance(found: Performance) -> dict[str, Any]:
    return {
        "roc_auc": _estimate(found.roc_auc),
        "pr_auc": _estimate(found.pr_auc),
        "sensitivity": [
            {"specificity": s, **_estimate(estimate)} for s, estimate in found.sensitivity.items()
        ],
        "abnormal": found.abnormal,
        "normal": found.normal,
        "prevalence": _number(found.prevalence),
        "cases": found.groups,
    }


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything of ``evaluation.json``: plain values, None where a figure cannot be computed."""
    figures = evaluation.figures
    fields: dict[str, dict[str, Any]] = {}
    for kind, found in (("raw", figures.raw), ("smoothed", figures.smoothed)):
        for name, performance in found.items():
            fields.setdefault(name, {})[kind] = _performance(performance)
    froc = figures.froc
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": str(evaluation.source),
        "model": None
        if evaluation.model is None
        else {"name": evaluation.model[0], "hash": evaluation.model[1]},
        "method": figures.method,
        "field_um": evaluation.field_um,
        "fields": fields,
        "above_mean_colour": {
            kind: _estimate(estimate) for kind, estimate in figures.above_colour.items()
        },
        "within_slides": {
            kind: {**_estimate(estimate), "slides": count}
            for kind, (estimate, count) in figures.macro.items()
        },
        "slides": {name: _performance(found) for name, found in figures.slides.items()},
        "froc": None
        if froc is None
        else {
            "mean": _estimate(froc.mean),
            "sensitivity": [
                {"false_per_slide": k, **_estimate(estimate)} for k, estimate in froc.at.items()
            ],
            "lesions": froc.lesions,
            "slides": froc.slides,
            "smaller_lesions": figures.small_lesions,
            "smallest_lesion_um": SMALLEST_LESION_UM,
            "lesions_apart_um": LESIONS_APART_UM,
        },
        "table": [
            {k: _number(v) if isinstance(v, float) else v for k, v in asdict(row).items()}
            for row in figures.rows
        ],
        "notes": list(evaluation.notes),
        "problems": list(evaluation.problems),
        "settings": dict(evaluation.settings),
        "program": {
            "wsi-anomaly": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scikit-learn")},
        },
    }


@cache
def _template() -> Any:
    from wsi_anomaly.reports.report import environment

    # The same rules, helpers and style as every other page.
    return environment(Path(__file__).parent / "templates").get_template("evaluation.html.j2")


def as_html(evaluation: Evaluation) -> str:
    """Lay out the report: one self-contained page, all names escaped."""
    figures = evaluation.figures
    text: str = _template().render(
        evaluation=evaluation,
        figures=figures,
        best=best_of(figures),
        lines=figure_lines(figures),
        headline=headline(figures, evaluation.noun),
        noun=evaluation.noun,
        by_case=bool(evaluation.settings.get("cases")),
        colour=COLOUR,
        charts=_charts(evaluation),
        rows=sorted(figures.rows, key=_order),
        gallery={
            row: [(shown, as_uri(shown.pixels)) for shown in pictures]
            for row, pictures in evaluation.gallery.items()
        },
        settings={k: v for k, v in evaluation.settings.items() if v not in (None, False, [])},
    )
    return text


def _order(row: SlideRow) -> tuple[bool, float, str]:
    known = math.isfinite(row.highest)
    return (not known, -row.highest if known else 0.0, row.name)


def best_of(figures: Figures) -> Performance | None:
    """Figures of the method as it is used: smoothed where there is a map."""
    return (figures.smoothed or figures.raw).get(figures.method)


def figure_lines(figures: Figures) -> list[tuple[str, Performance]]:
    """Lines of the table of figures, the chosen method first and the control last."""
    names = sorted(figures.raw, key=lambda name: (name == COLOUR, name != figures.method, name))
    out = []
    for name in names:
        out.append((name, figures.raw[name]))
        if name in figures.smoothed:
            out.append((f"{name}, 3 × 3", figures.smoothed[name]))
    return out


def headline(figures: Figures, noun: str) -> tuple[str, str]:
    """Two sentences for somebody who reads no further."""
    found = best_of(figures)
    if found is None:
        slides = next(iter(figures.slides.values()))
        meaning = (
            f"Of {slides.abnormal} abnormal and {slides.normal} normal slides; nothing is known of "
            f"single {noun}s."
        )
        return f"Slides: ROC AUC {slides.roc_auc}.", meaning
    control = (figures.smoothed or figures.raw).get(COLOUR)
    first = f"{noun.capitalize()}s: ROC AUC {found.roc_auc}" + (
        "." if control is None else f"; mean colour alone reaches {control.roc_auc}."
    )
    used = "scores averaged over 3 × 3 fields, as flags are" if figures.smoothed else "raw scores"
    return first, (
        f"An abnormal {noun} scores above a normal one in {100 * found.roc_auc.value:.0f} of 100 "
        f"pairs ({used})."
    )


def _charts(evaluation: Evaluation) -> list[Chart]:
    figures, slides = evaluation.figures, evaluation.slides
    out = []
    if figures.raw:
        method = figures.method
        labels = np.concatenate([slide.labels for slide in slides])
        raw = np.concatenate([slide.raw[method] for slide in slides])
        series = [Series("raw", "second" if figures.smoothed else "main", raw)]
        shown, name = raw, "raw score"
        maps: Sequence[Mapping[str, Any]] = [s.smoothed for s in slides if s.smoothed is not None]
        if figures.smoothed:
            shown, name = np.concatenate([m[method] for m in maps]), "score over 3 × 3 fields"
            series.insert(0, Series("over 3 × 3 fields", "main", shown))
        if COLOUR in figures.raw:
            of_colour = [m[COLOUR] for m in maps] if maps else [s.raw[COLOUR] for s in slides]
            series.append(Series(COLOUR, "control", np.concatenate(of_colour)))
        out += [
            roc_chart(labels, series, evaluation.noun),
            pr_chart(labels, series, evaluation.noun),
            score_chart(labels, shown, name, evaluation.noun),
        ]
    if figures.froc is not None:
        out.append(froc_chart(figures.froc))
    return out
