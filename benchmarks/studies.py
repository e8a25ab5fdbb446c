"""How often a study without an effect gives a p-value of 0.05 or less.

    python benchmarks/studies.py

Three groups of five animals, three organs that go together, now and then one missing. Counted is
the smallest p-value over all organs, as a reader looks for it; and what flags alone would say.
"""

from __future__ import annotations

import numpy as np
from common import REPOSITORY, parser_of

from wsi_anomaly.studies.permutation import against_controls, trend

PAGE = REPOSITORY / "docs" / "results" / "studies.md"
ORGANS = ("liver", "kidney", "heart")
GROUPS = [[f"{name}{i}" for i in range(5)] for name in ("c", "low", "high")]


def study(rng: np.random.Generator, effect: float = 0.0) -> dict[str, dict[str, float]]:
    """Scores by organ and animal; `effect` is that of the higher dose on the liver."""
    own = {a: rng.standard_t(3) for group in GROUPS for a in group}
    return {
        organ: {
            a: own[a] + rng.normal() + effect * dose / 2 * (organ == "liver")
            for dose, group in enumerate(GROUPS)
            for a in group
            if rng.random() > 0.05
        }
        for organ in ORGANS
    }


def main() -> None:
    """Simulate, and write the page."""
    parser = parser_of(__doc__, rounds=None)
    parser.add_argument("--studies", type=int, default=2000)
    asked = parser.parse_args()
    lines = []
    for effect in (0.0, 3.0):
        rng = np.random.default_rng(0)
        found = []
        for _ in range(asked.studies if not effect else asked.studies // 10):
            scores = study(rng, effect)
            high = against_controls(scores, GROUPS[0], GROUPS[2])
            rising = trend(scores, GROUPS)
            found.append([min(x.over_organs.values()) for x in (high, rising)])
        shares = (np.array(found) <= 0.05).mean(0)
        lines.append(f"| {effect:g} | {len(found)} | {shares[0]:.3f} | {shares[1]:.3f} |")
        print(lines[-1], flush=True)
    PAGE.write_text(_PAGE + "\n".join(lines) + "\n", encoding="utf-8")


_PAGE = """# How often does a study without an effect give p <= 0.05?

Written by `python benchmarks/studies.py`. Three groups of five animals, three organs whose
scores go together (heavy tails), now and then an organ missing. Counted is the smallest p-value
over all organs, corrected for their number, as a page of a study shows it. *Effect*: of the higher
dose on one organ, in standard deviations of the noise.

| effect | studies | high dose against controls | trend over dose |
|---:|---:|---:|---:|
"""

if __name__ == "__main__":
    main()
