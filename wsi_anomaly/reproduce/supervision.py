"""Choosing a configuration by a few known anomalies: how good is what they choose.

The paper's second idea: a handful of anomalies, of one type, is enough to choose hyperparameters.
A small grid of configurations is trained once on normal images. Then few anomalies are drawn again
and again from half of the abnormal images; each draw chooses the configuration that tells them best
from normal images set aside, and that one is judged on normal images and on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_anomaly import __version__
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import make_folder, write_json, write_text
from wsi_anomaly.reproduce.choosing import DRAWS, TYPES, Choice, Supervision, choose
from wsi_anomaly.reproduce.experiment import Bench
from wsi_anomaly.reproduce.markdown import training_text
from wsi_anomaly.reproduce.picture import curve_picture
from wsi_anomaly.reproduce.plan import Plan
from wsi_anomaly.reproduce.problems import Source, chosen_classes
from wsi_anomaly.reproduce.published import GRID
from wsi_anomaly.reproduce.run import Watch
from wsi_anomaly.reproduce.scores import Scores


def supervision(
    source: Source,
    plan: Plan,
    output: Path,
    *,
    classes: Sequence[str] = (),
    seeds: int = 3,
    command: str = "",
    watch: Watch | None = None,
) -> Supervision:
    """Train the grid where it is not there yet, choose, and write the curve.

    Writes ``supervision.md``, ``supervision.json`` and ``supervision.png``. See
    :func:`~wsi_anomaly.reproduce.run.reproduce` for the parameters.

    Raises
    ------
    UsageError
        A class does not exist, or there are too few abnormal images.
    """
    watch = watch or Watch()
    if not plan.aside:
        raise UsageError("supervision chooses by images set aside; leave --aside 0 away.")
    problems = chosen_classes(source, classes)
    make_folder(output)
    bench = Bench(source, plan, output, watch.report)
    places = list(bench.places(GRID, problems, seeds))
    bench.check_network(places)
    for number, place in enumerate(places):
        was_there = place.done
        watch.starts(number, len(places), place)
        cell = bench.run(place)
        if not was_there:
            watch.ended(place, cell)
    choices = [
        Choice.of([Scores.load(bench.place(row, name, seed).scores) for row in GRID], seed)
        for name in problems
        for seed in range(seeds)
    ]
    most = max(len(np.unique(choice.pool_kind)) for choice in choices)
    wanted = dict.fromkeys(most if t is None else t for t in TYPES if t is None or t <= most)
    found = Supervision(
        tuple(choose(choices, types) for types in wanted),
        float(np.mean([c.quality.max() for c in choices])),
        float(np.mean([c.quality[c.reconstruction.argmin()] for c in choices])),
        float(np.mean([c.quality.mean() for c in choices])),
        {row: float(np.mean([c.quality[k] for c in choices])) for k, row in enumerate(GRID)},
    )
    training = training_text(places[0].settings)
    learned = int(np.median([place.read()["learned_from"] for place in places]))
    what = f"{', '.join(problems)}; seeds 0 to {seeds - 1}; {learned:,} normal images; {training}"
    write_text(output / "supervision.md", _markdown(source, plan, found, what, command))
    write_json(output / "supervision.json", _as_json(source, found, what, command))
    curve_picture(output / "supervision.png", source, found)
    return found


def _markdown(source: Source, plan: Plan, found: Supervision, what: str, command: str) -> str:
    texts = (
        f"# {source.title}: choosing by few anomalies\n\n    {command}\n",
        f"- {what}; perceptual network {plan.features}.",
        (
            f"- {len(GRID)} configurations: 4, 16 or 64 numbers in the latent, or a map of 16 or "
            "64 channels (a loose bottleneck), the loss on a middle or a deep layer."
        ),
        (
            "- Known anomalies come from one half of the abnormal images; the figures are of "
            f"normal images and the other half. About {DRAWS} draws for each number, over all "
            "problems and seeds."
        ),
        (
            f"- The best configuration of the grid: {found.oracle:.3f}. Chosen by reconstruction, "
            f"without any anomaly: {found.unsupervised:.3f}. Any of them at random: "
            f"{found.average:.3f}."
        ),
        "\n| types | anomalies | ROC AUC of the choice | 10% to 90% of draws | was the best |",
        "|---|---|---|---|---|",
    )
    lines = list(texts)
    for curve in found.curves:
        for k, count in enumerate(curve.counts):
            lines.append(
                f"| {curve.types} | {count} | {curve.mean[k]:.3f} | {curve.low[k]:.3f} to "
                f"{curve.high[k]:.3f} | {curve.best[k]:.0%} |"
            )
    lines += ["", "| configuration | ROC AUC |", "|---|---|"]
    lines += [f"| {row} | {auc:.3f} |" for row, auc in found.quality.items()]
    return "\n".join(lines) + "\n"


def _as_json(source: Source, found: Supervision, what: str, command: str) -> dict[str, Any]:
    return {
        "set": source.key, "title": source.title, "what": what, "command": command,
        "program": f"wsi-anomaly {__version__}", "oracle": round(found.oracle, 4),
        "unsupervised": round(found.unsupervised, 4), "average": round(found.average, 4),
        "quality": {row: round(auc, 4) for row, auc in found.quality.items()},
        "curves": [
            {
                "types": c.types, "anomalies": list(c.counts),
                "auc": [round(v, 4) for v in c.mean], "low": [round(v, 4) for v in c.low],
                "high": [round(v, 4) for v in c.high], "best": [round(v, 3) for v in c.best],
            }
            for c in found.curves
        ],
    }  # fmt: skip
