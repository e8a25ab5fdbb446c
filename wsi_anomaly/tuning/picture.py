"""The picture of a search: how it went, what mattered, and how sure the figures are."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsi_anomaly.tuning.records import Found, Tried

_DPI = 110
_SHOWN = 12
_BLUE, _RED, _GREY = "#2d6a8a", "#c8503c", "#9aa5ad"
_LEAST_FOR_IMPORTANCE = 4


def search_picture(found: Found) -> bytes:
    """Draw the picture as a PNG: history, importance of the choices, spread of the best trials."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.6), dpi=_DPI, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.15))
    _history(figure.add_subplot(grid[0, :]), found)
    _importance(figure.add_subplot(grid[1, 0]), found)
    _spread(figure.add_subplot(grid[1, 1]), found)
    for axes in figure.axes:
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    best = found.best
    figure.suptitle(
        f"Search over {len(found.tried)} trials: trial {best.number} chosen, "
        f"{_figure_name(found)} {best.value:.3f}",
        fontsize=11,
    )
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png")
    return buffer.getvalue()


def importances(found: Found) -> dict[str, float]:
    """Share of the variance of the figure that each choice explains (fANOVA), in falling order.

    Only trials of the chosen method are compared: methods have different choices. Empty when
    there are too few of them, or when they all came out alike.
    """
    import optuna

    detector = found.best.choices.get("detector")
    own = [t for t in _complete(found) if t.choices.get("detector") == detector]
    values = [t.value for t in own]
    if len(own) < _LEAST_FOR_IMPORTANCE or np.ptp(values) == 0:
        return {}
    names = [
        name
        for name in found.best.choices
        if all(name in t.choices for t in own) and len({t.choices[name] for t in own}) > 1
    ]
    if not names:
        return {}
    study = optuna.create_study()
    for t in own:
        study.add_trial(
            optuna.trial.create_trial(
                value=t.value,
                params={name: t.choices[name] for name in names},
                distributions={name: _distribution(own, name) for name in names},
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _distribution(tried: Sequence[Tried], name: str) -> Any:
    import optuna

    values = [t.choices[name] for t in tried]
    if isinstance(values[0], float):
        return optuna.distributions.FloatDistribution(min(values), max(values), log=True)
    return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))


def _complete(found: Found) -> list[Tried]:
    return [t for t in found.tried if t.state == "complete"]


def _figure_name(found: Found) -> str:
    return "ROC AUC" if found.criterion == "roc-auc" else "reconstruction loss"


def _history(axes: Any, found: Found) -> None:
    complete = _complete(found)
    # Numbers have gaps where a draw was refused.
    place = {t.number: k + 1 for k, t in enumerate(found.tried)}
    stopped = [t for t in found.tried if t.state != "complete" and t.folds]
    for detector, colour in (("dpa", _BLUE), ("density", "#d39a2c")):
        own = [t for t in complete if t.choices.get("detector") == detector]
        if own:
            axes.plot(
                [place[t.number] for t in own],
                [t.value for t in own],
                "o",
                ms=5,
                color=colour,
                label=detector,
            )
    if stopped:
        axes.plot(
            [place[t.number] for t in stopped],
            [t.value for t in stopped],
            "x",
            ms=5,
            color=_GREY,
            label="stopped early",
        )
    if found.start is not None:
        axes.axhline(found.start.value, color=_GREY, lw=0.9, ls="--", label="start")
    better = np.maximum if found.criterion == "roc-auc" else np.minimum
    best = better.accumulate([t.value for t in complete])
    axes.step(
        [place[t.number] for t in complete],
        best,
        where="post",
        color=_RED,
        lw=1.2,
        label="best so far",
    )
    axes.set_xlabel("trials in order", fontsize=8)
    lower = "" if found.criterion == "roc-auc" else " (lower is better)"
    axes.set_ylabel(f"mean {_figure_name(found)} over the folds{lower}", fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8, frameon=False, ncols=5, loc="lower right", bbox_to_anchor=(1, 1))


def _importance(axes: Any, found: Found) -> None:
    detector = found.best.choices.get("detector", "")
    axes.set_title(f"What mattered for {detector}", fontsize=9)
    shares = importances(found)
    if not shares:
        axes.text(
            0.5,
            0.5,
            "too few complete trials to tell",
            ha="center",
            va="center",
            fontsize=9,
            color="#555",
            transform=axes.transAxes,
        )
        axes.set_xticks([])
        axes.set_yticks([])
        return
    names = list(shares)[::-1]
    axes.barh(names, [shares[n] for n in names], color=_BLUE, height=0.6)
    axes.set_xlabel("share of the spread between trials that it explains", fontsize=8)
    axes.set_xlim(0, 1)


def _spread(axes: Any, found: Found) -> None:
    sign = -1 if found.criterion == "roc-auc" else 1
    best = sorted(_complete(found), key=lambda t: (sign * t.value, t.number))[:_SHOWN]
    if found.start is not None and found.start not in best:
        best = [*best[:-1], found.start] if len(best) == _SHOWN else [*best, found.start]
    rows = range(len(best))[::-1]
    for row, t in zip(rows, best, strict=True):
        low, high = found.intervals[t.number]
        colour = _RED if t.number == found.best.number else _BLUE
        axes.plot([low, high], [row, row], color=colour, lw=2, alpha=0.5, solid_capstyle="butt")
        axes.plot(t.folds, [row] * len(t.folds), ".", ms=4, color=colour, alpha=0.8)
        axes.plot(t.value, row, "D", ms=5, color=colour)
    labels = [
        f"{'start, ' if t.start else ''}{t.choices.get('detector', '')}, trial {t.number}"
        for t in best
    ]
    axes.set_yticks(list(rows), labels)
    axes.set_xlabel(
        f"mean {_figure_name(found)} (diamond), folds (dots),\n95% of resampled cases (bar)",
        fontsize=8,
    )
    axes.set_title("The best trials, and how sure their figures are", fontsize=9)
