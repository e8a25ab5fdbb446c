"""Do 95% intervals of the ROC AUC cover it? Few slides, many cohorts.

    python benchmarks/intervals.py

Fields of slides that each have a level of their own (three tenths or six tenths of the variance);
every slide with both classes, or half of the slides abnormal; and one score a slide. Beside the
studentised jackknife, the percentiles of a bootstrap that were here before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from common import REPOSITORY, parser_of
from numpy.typing import NDArray
from scipy import stats

from wsi_anomaly.evaluation.metrics import LEAST_GROUPS, each_left_out, interval

PAGE = REPOSITORY / "docs" / "results" / "intervals.md"
SLIDES = (6, 8, 10, 15, 20, 30)  # with both classes; where they lie apart twice the least
DRAWS = 400
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """How the two classes lie on slides.

    Attributes
    ----------
    name
        For the table.
    mixed
        Whether every slide has both.
    fields
        Of each class on a slide.
    between
        Share of the variance that lies between slides.
    """

    name: str
    mixed: bool
    fields: int
    between: float


DESIGNS = (
    Design("fields, both classes on every slide, 0.3 between slides", True, 12, 0.3),
    Design("fields, both classes on every slide, 0.6 between slides", True, 12, 0.6),
    Design("fields, half of the slides abnormal, 0.3 between slides", False, 12, 0.3),
    Design("fields, half of the slides abnormal, 0.6 between slides", False, 12, 0.6),
    Design("one score a slide", False, 1, 1.0),
)


def pairs(rng: np.random.Generator, design: Design, slides: int, auc: float) -> Floats:
    """Draw a cohort; (slides, slides) how often an abnormal field of one beats a normal of another.

    NaN where a slide has none of the class.
    """
    scores = []
    for apart in (np.sqrt(2) * stats.norm.ppf(auc), 0.0):
        own = rng.normal(size=(slides, 1)) * np.sqrt(design.between)
        fields = rng.normal(size=(slides, design.fields)) * np.sqrt(1 - design.between)
        scores.append(apart + own + fields)
    abnormal, normal = scores
    won = (abnormal[:, None, :, None] > normal[None, :, None, :]).mean((2, 3))
    if not design.mixed:
        won[slides // 2 :] = np.nan
        won[:, : slides // 2] = np.nan
    return won


def aucs(won: Floats, weights: Floats) -> Floats:
    """ROC AUC under weights of the slides (draws, slides); NaN without one of the classes."""
    there = np.isfinite(won)
    beaten = np.einsum("da,ab,db->d", weights, np.where(there, won, 0), weights)
    of = np.einsum("da,ab,db->d", weights, there.astype(float), weights)
    return np.divide(beaten, of, out=np.full(len(of), np.nan), where=of > 0)


def covered(
    rng: np.random.Generator, design: Design, slides: int, auc: float, cohorts: int
) -> dict[str, float]:
    """Share of intervals, new and old, that cover; their widths; share of cohorts with one."""
    found = np.full((cohorts, 2, 2), np.nan)
    for ends in found:
        won = pairs(rng, design, slides, auc)
        value = float(aucs(won, np.ones((1, slides)))[0])
        rarer = slides if design.mixed else slides // 2
        ends[0] = interval(value, aucs(won, each_left_out(slides)), rarer=rarer)
        drawn = aucs(won, rng.multinomial(slides, np.full(slides, 1 / slides), DRAWS).astype(float))
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn) and np.ptp(drawn) > 0:
            ends[1] = np.percentile(drawn, (2.5, 97.5))
    out = {}
    for name, (low, high) in zip(("", "old "), found.transpose(1, 2, 0), strict=True):
        given = np.isfinite(low)
        out[f"{name}coverage"] = float(np.mean((low <= auc) & (auc <= high), where=given))
        out[f"{name}width"] = float(np.mean(high - low, where=given))
        out[f"{name}given"] = float(given.mean())
    return out


def main() -> None:
    """Simulate, and write the page."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("--cohorts", type=int, default=2000)
    asked = parser.parse_args()
    lines, least = [], 1.0
    for design in DESIGNS:
        for auc in (0.75, 0.95):
            for slides in SLIDES if design.mixed else (12, *SLIDES[3:]):
                rng = np.random.default_rng(slides)
                found = covered(rng, design, slides, auc, asked.cohorts)
                least = min(least, found["coverage"])
                cells = [f"{v:.3f}" for v in found.values()]
                lines.append(
                    "| " + " | ".join([design.name, f"{auc:g}", str(slides), *cells]) + " |"
                )
                print(lines[-1], flush=True)
    PAGE.write_text(_PAGE.format(asked.cohorts, LEAST_GROUPS, least, "\n".join(lines)))


_PAGE = """# Do 95% intervals cover?

Written by `python benchmarks/intervals.py`: {} cohorts for each row. `evaluate` gives an
interval where each class comes from at least {} slides or cases: a studentised jackknife over
them, on the scale of logits. The lowest coverage here is {:.3f}. *Old*: the percentiles of a
bootstrap over slides. *Given*: share of cohorts with an interval; where the figure is the same
without any slide there is none.

| design | AUC | slides | coverage | width | given | old coverage | old width | old given |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
{}
"""

if __name__ == "__main__":
    main()
