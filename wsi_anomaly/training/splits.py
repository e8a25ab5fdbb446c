"""Who trains, who validates, who calibrates: by case, never by tile.

Tiles of one case are alike. A case that has trained tells nothing about normal cases to come, so
the three parts have no case in common, and calibration cases choose nothing at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from wsi_anomaly.calibration import MIN_CASES

VALIDATION_SHARE = 0.15
CALIBRATION_SHARE = 0.25


@dataclass(frozen=True)
class Split:
    """Cases of each part, sorted.

    Attributes
    ----------
    train, validation, calibration
        Names of cases; the latter two may be empty.
    note
        A sentence for the user when there are too few cases to do everything; else "".
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    calibration: tuple[str, ...]
    note: str = ""

    def part(self, case: str) -> str:
        """Part of a case: "train", "validation" or "calibration"."""
        for name in ("train", "validation", "calibration"):
            if case in getattr(self, name):
                return name
        raise KeyError(case)


def split_cases(tiles: Mapping[str, int], *, seed: int = 0, chose: Collection[str] = ()) -> Split:
    """Part the cases.

    From eight cases on, a quarter but at least four calibrate (fewer give no flags), 15% validate
    and the rest trains. Below that calibration gets up to half of the cases, below four nothing:
    so few cannot give flags, and the model needs them all. What is not possible is said. The
    choice depends on the names and the seed alone: a case that comes later does not mix up the
    others' order.

    Parameters
    ----------
    tiles
        Number of tiles of each case.
    seed
        Another seed parts them differently.
    chose
        Cases by which hyperparameters were chosen: they never calibrate.
    """
    count = len(tiles)
    if not count:
        raise ValueError("there are no cases to split")
    order = sorted(tiles, key=lambda case: (case in chose, _draw(case, seed)))
    calibration = max(min(MIN_CASES, count // 2), round(CALIBRATION_SHARE * count))
    if count < MIN_CASES:
        calibration = 0
    untouched = sum(case not in chose for case in tiles)
    validation = max(1, round(VALIDATION_SHARE * count)) if count >= MIN_CASES else 0
    note = ""
    if count < MIN_CASES:
        note = (
            f"{'There is only one case' if count == 1 else f'There are only {count} cases'}: the "
            f"model learns from {'it' if count == 1 else 'all of them'} and has no reference, so "
            "scores stay raw and nothing is flagged; tile at least 8 normal cases for flags, or "
            "run calibrate with 4 others later."
        )
    elif calibration < MIN_CASES:
        note = (
            f"{count} cases are too few to keep {MIN_CASES} apart for calibration: percentiles "
            "are rough and nothing is flagged; tile at least 8 normal cases for flags."
        )
    if untouched < calibration:
        calibration = untouched
        note = (
            f"All but {untouched} of the {count} cases took part in tune and cannot calibrate: "
            "give train the tiles that tune was given, or run calibrate with other normal slides."
        )
    first, second = calibration, calibration + validation
    return Split(
        tuple(sorted(order[second:])),
        tuple(sorted(order[first:second])),
        tuple(sorted(order[:first])),
        note,
    )


def _draw(case: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{case}".encode()).hexdigest()
