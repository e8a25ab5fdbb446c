"""Choosing a configuration by a few known anomalies: how good is what they choose.

The paper's second idea: a handful of anomalies, of one type, is enough to choose hyperparameters.
A small grid of configurations is trained once on normal images. Then few anomalies are drawn again
and again from half of the abnormal images; each draw chooses the configuration that tells them best
from normal images set aside, and that one is judged on normal images and on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly import __version__
from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import make_folder, write_json, write_text
from wsi_anomaly.core.ranking import roc_auc
from wsi_anomaly.experiments.reproduce.cells import Bench
from wsi_anomaly.experiments.reproduce.markdown import training_text
from wsi_anomaly.experiments.reproduce.picture import curve_picture
from wsi_anomaly.experiments.reproduce.plan import Plan
from wsi_anomaly.experiments.reproduce.problems import Source
from wsi_anomaly.experiments.reproduce.published import GRID
from wsi_anomaly.experiments.reproduce.run import Watch
from wsi_anomaly.experiments.reproduce.scores import Scores

COUNTS = (1, 2, 5, 10, 20, 50, 100)
TYPES = (1, 3, None)
"""Types of anomaly that a draw is taken from; None: all of them."""

DRAWS = 300


@dataclass(frozen=True)
class Curve:
    """Quality of the chosen configuration.

    Attributes
    ----------
    types
        Number of types that the anomalies are drawn from.
    counts
        Number of anomalies.
    mean, low, high
        ROC AUC of the chosen configuration: mean, and 10th and 90th percentile over draws.
    best
        How often the choice was the configuration that is best on the judged images.
    """

    types: int
    counts: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    best: tuple[float, ...]


@dataclass(frozen=True)
class Choice:
    """What one problem and seed say: the grid's scores, and a half of the anomalies to choose by.

    Attributes
    ----------
    normal
        (n, C) scores of normal images set aside, sorted for each configuration.
    pool, pool_kind
        (p, C) scores of the anomalies to choose by, and (p,) their types.
    quality
        (C,) ROC AUC of each configuration on the judged images.
    reconstruction
        (C,) mean loss on the normal images set aside: what an unsupervised choice goes by.
    """

    normal: NDArray[np.float64]
    pool: NDArray[np.float64]
    pool_kind: NDArray[np.str_]
    quality: NDArray[np.float64]
    reconstruction: NDArray[np.float64]

    @classmethod
    def of(cls, cells: Sequence[Scores], seed: int) -> Choice:
        """Divide the abnormal images in halves, by what they come from."""
        first = cells[0]
        rng = np.random.default_rng([seed, 3])
        groups = rng.permutation(np.unique(first.group[first.abnormal]))
        in_pool = first.abnormal & np.isin(first.group, groups[: len(groups) // 2])
        judged = ~in_pool
        quality = [
            Scores(
                c.judge[judged], c.abnormal[judged], c.group[judged], c.kind[judged], c.normal,
                c.known,
            ).auc()
            for c in cells
        ]  # fmt: skip
        return cls(
            np.sort(np.stack([c.normal for c in cells], 1), 0),
            np.stack([c.judge[in_pool] for c in cells], 1),
            first.kind[in_pool],
            np.array(quality),
            np.array([c.normal.mean() for c in cells]),
        )

    def aucs(self, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """ROC AUC (C,) of some of the pool against the normal images set aside."""
        pairs = zip(self.normal.T, self.pool[chosen].T, strict=True)
        return np.array([roc_auc(normal, abnormal) for normal, abnormal in pairs])

    def draw(self, count: int, types: int, rng: np.random.Generator) -> NDArray[np.intp] | None:
        """Few anomalies of few types; None where there are not so many."""
        kinds = np.unique(self.pool_kind)
        if types > len(kinds):
            return None
        mine = np.flatnonzero(np.isin(self.pool_kind, rng.choice(kinds, types, replace=False)))
        return None if count > len(mine) else rng.choice(mine, count, replace=False)


def choose(choices: Sequence[Choice], types: int) -> Curve:
    """Draw again and again, choose, and look at what was chosen."""
    counts, mean, low, high, best = [], [], [], [], []
    for count in COUNTS:
        found: list[float] = []
        hits: list[bool] = []
        for number, choice in enumerate(choices):
            rng = np.random.default_rng([number, types, count])
            for _ in range(max(1, DRAWS // len(choices))):
                chosen = choice.draw(count, types, rng)
                if chosen is None:
                    continue
                aucs = choice.aucs(chosen)
                # Equally good ones: any of them could have been taken.
                winner = rng.choice(np.flatnonzero(aucs >= aucs.max() - 1e-12))
                found.append(float(choice.quality[winner]))
                hits.append(bool(winner == choice.quality.argmax()))
        if found:
            counts.append(count)
            mean.append(float(np.mean(found)))
            low.append(float(np.percentile(found, 10)))
            high.append(float(np.percentile(found, 90)))
            best.append(float(np.mean(hits)))
    return Curve(types, tuple(counts), tuple(mean), tuple(low), tuple(high), tuple(best))


@dataclass(frozen=True)
class Supervision:
    """All curves, and what they are held against.

    Attributes
    ----------
    curves
        One for each number of types.
    oracle, unsupervised, average
        ROC AUC of the best configuration of the grid, of the one that rebuilds normal images best,
        and the mean over the grid; each the mean over problems and seeds.
    quality
        Configuration to its mean ROC AUC.
    """

    curves: tuple[Curve, ...]
    oracle: float
    unsupervised: float
    average: float
    quality: dict[str, float]


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
    :func:`~wsi_anomaly.experiments.reproduce.run.reproduce` for the parameters.

    Raises
    ------
    UsageError
        A class does not exist, or there are too few abnormal images.
    """
    watch = watch or Watch()
    problems = tuple(classes) or source.classes
    unknown = [name for name in problems if name not in source.classes]
    if unknown:
        raise UsageError(
            f"{source.title} has no class {unknown[0]!r}; it has {', '.join(source.classes)}."
        )
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
            f"- {len(GRID)} configurations: 4, 16 or 64 numbers in the latent, the loss on a "
            "middle or a deep layer."
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
