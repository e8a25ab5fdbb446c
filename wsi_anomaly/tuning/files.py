"""What a search leaves behind: the configuration, the trials, a sentence on how sure it is."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from wsi_anomaly.core.tables import table_text
from wsi_anomaly.training.config import TrainConfig
from wsi_anomaly.tuning.confidence import DRAWS, SURE_FROM, Comparison
from wsi_anomaly.tuning.records import Found, Tried

_FEW = 8


def config_toml(config: TrainConfig, remarks: Sequence[str]) -> str:
    """Write a configuration as TOML that ``train --config`` reads; remarks become comments."""
    lines = [f"# {line}" for text in remarks for line in _wrapped(text)]
    # The options of compared systems, which nothing was chosen for, stay those of the preset.
    # TOML has no null: what is None is what a file has that does not name it.
    lines += [
        f"{key} = {_toml(value)}"
        for key, value in config.to_dict().items()
        if key != "options" and value is not None
    ]
    return "\n".join(lines) + "\n"


def trials_csv(tried: Sequence[Tried], folds: int) -> str:
    """Write every trial with its choices and the figure of each fold, one line a trial."""
    choices = list(dict.fromkeys(name for t in tried for name in t.choices))
    rows = []
    for t in tried:
        values = [f"{v:.5f}" for v in t.folds] + [""] * (folds - len(t.folds))
        rows.append(
            [t.number, t.state, f"{t.value:.5f}" if t.folds else "", *values,
             " ".join(map(str, t.steps)), f"{t.seconds:.1f}",
             *(t.choices.get(name, "") for name in choices), t.reason]
        )  # fmt: skip
    return table_text(
        [
            "trial", "state", "value", *(f"fold_{k + 1}" for k in range(folds)), "steps", "seconds",
            *(name.replace(" ", "_") for name in choices), "reason",
        ],
        rows,
    )  # fmt: skip


def summary(found: Found, cases: Sequence[str], calibration: Sequence[str]) -> dict[str, Any]:
    """Return plain values for ``tuned.json``."""

    def against(comparison: Comparison | None) -> dict[str, float] | None:
        if comparison is None:
            return None
        return {name: round(value, 5) for name, value in vars(comparison).items()}

    return {
        "criterion": found.criterion,
        "trials": len(found.tried),
        "chosen": _trial(found.best),
        "start": None if found.start is None else _trial(found.start),
        "second": None if found.second is None else _trial(found.second),
        "over_start": against(found.over_start),
        "over_second": against(found.over_second),
        "cases": list(cases),
        "calibration_cases": list(calibration),
        "groups_of_anomalies": found.groups,
        "sentences": sentences(found),
    }


def _trial(tried: Tried) -> dict[str, Any]:
    return {
        "trial": tried.number,
        "value": round(tried.value, 5),
        "folds": [round(v, 5) for v in tried.folds],
        "choices": dict(tried.choices),
    }


def sentences(found: Found) -> list[str]:
    """Say what was chosen and how sure that is."""
    best = found.best
    roc = found.criterion == "roc-auc"
    figure = "mean ROC AUC" if roc else "mean reconstruction loss"
    folds = ", ".join(f"{v:.3f}" for v in best.folds)
    which = f"Chosen: trial {best.number}, {figure} {best.value:.3f} (folds {folds})"
    said = [f"{which}, {described(best.choices)}."]
    what = f"{found.cases} normal cases"
    if found.groups > 1:
        what += f" and {found.groups} cases with anomalies"
    if found.start is None:
        said.append("The configuration that the search began with has no value to compare with.")
    elif found.over_start is None:
        said.append(
            "No trial did better than the configuration that the search began with; it stays."
        )
    else:
        said.append(
            f"It {_sure(found.over_start.wins)} better than the configuration that the search "
            f"began with ({found.start.value:.3f}): {_share(found.over_start)} of {DRAWS:,} "
            f"resamples of {what}, {_difference(found.over_start, roc)}."
        )
    is_start = found.over_start is not None and found.second == found.start  # said already
    if found.over_second is not None and found.second is not None and not is_start:
        resamples = f"{DRAWS:,} resamples of {what}" if found.over_start is None else "them"
        said.append(
            f"It beats the runner-up (trial {found.second.number}, {found.second.value:.3f}) in "
            f"{_share(found.over_second)} of {resamples}, {_difference(found.over_second, roc)}."
        )
    if found.over_start is not None and min(found.cases, found.groups or found.cases) < _FEW:
        said.append("With so few cases to draw from, such shares are surer than they should be.")
    if roc and found.groups == 1:
        said.append(
            "All anomalies come from one case. The choice suits that lesion; how it would rank "
            "another one is not known, and the resamples could only change the normal cases."
        )
    said.append(
        "The figure of the chosen trial is too favourable, because it was the best of "
        f"{len(found.tried)} on these very tiles; judge the model on slides that took no part."
    )
    return said


def described(choices: Mapping[str, Any]) -> str:
    """Choices in one line."""
    return ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in choices.items()
    )


def _sure(wins: float) -> str:
    if wins >= SURE_FROM:
        return "is"
    return "is not surely"


def _share(comparison: Comparison) -> str:
    return f"{comparison.wins:.0%}"


def _difference(comparison: Comparison, roc: bool) -> str:
    lower = "" if roc else "a loss lower by "
    sign = "+" if roc else ""
    low, high = f"{comparison.low:{sign}.3f}", f"{comparison.high:{sign}.3f}"
    return f"{lower}{comparison.difference:{sign}.3f} [{low}, {high}]"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 96)


def _toml(value: Any) -> str:
    """Write a value of :meth:`TrainConfig.to_dict`; its strings hold no control characters."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
