"""Concurrent controls: the control animals of a study as the reference of its slides.

Control slides are cut, stained and scanned with those of the treated animals, so they show what
is normal in this study. Their raw scores are kept in small files, one per slide, from which any
process builds the reference that it needs: all control animals, or all but one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from wsi_anomaly.calibration import Calibration, CaseScores
from wsi_anomaly.core.errors import ModelError
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.core.wording import counted
from wsi_anomaly.scoring.score_map import ScoreMap

_MOST_KEPT = 1024  # slides; of 10,000 fields each half a megabyte with what is computed of it


class ConcurrentControls(Calibration):
    """Reference made of the control animals of a study."""

    case_noun = "control animal"
    concurrent = True

    @property
    def name(self) -> str:
        """What the reference is, for people."""
        return f"concurrent controls ({counted(self.n_cases, 'animal')})"


@dataclass(frozen=True)
class ControlScores:
    """Raw scores of one control slide.

    Attributes
    ----------
    animal
        Whose slide it is; slides of one animal are left out together.
    path
        File that :func:`save_raw_scores` wrote. Its name changes with what it holds.
    """

    animal: str
    path: Path


@dataclass(frozen=True)
class Controls:
    """The control slides with which a slide is compared; empty when there are none."""

    scores: tuple[ControlScores, ...]

    @property
    def identity(self) -> str:
        """Changes with the slides, their scores, and which of them are of one animal."""
        entries = sorted((s.path.name, s.animal) for s in self.scores)
        return config_hash({"controls": [list(entry) for entry in entries]})

    def calibration(self) -> ConcurrentControls | None:
        """Read the scores, once in a process; None when no control shows any tissue.

        Raises
        ------
        ModelError
            A file is missing or damaged.
        """
        return _read(self.scores)

    def without(self, animal: str) -> Controls:
        """Leave an animal out."""
        return Controls(tuple(s for s in self.scores if s.animal != animal))


@lru_cache(maxsize=4)
def _read(scores: tuple[ControlScores, ...]) -> ConcurrentControls | None:
    cases = [case for entry in scores if (case := _case(entry)) is not None]
    return ConcurrentControls(cases) if cases else None


@lru_cache(maxsize=_MOST_KEPT)
def _case(entry: ControlScores) -> CaseScores | None:
    """Read a slide, once in a process for all references that it is part of."""
    from wsi_anomaly.core.tensors import load_tensors

    tensors, _ = load_tensors(entry.path)
    row, col, score = (tensors[name].numpy() for name in ("row", "col", "score"))
    if not len(score):
        return None
    try:
        return CaseScores(entry.animal, entry.path.stem, row, col, score)
    except ValueError as error:
        damaged = f"{entry.path} is damaged ({error}); delete it and score again."
        raise ModelError(damaged) from error


def save_raw_scores(path: Path, score_map: ScoreMap) -> None:
    """Keep the raw scores of a slide, without its name.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import torch

    from wsi_anomaly.core.tensors import save_tensors

    good = score_map.assessed
    arrays = {
        "row": score_map.fields.row[good].astype(np.int32),
        "col": score_map.fields.col[good].astype(np.int32),
        "score": score_map.score[good].astype(np.float32),
    }
    save_tensors(path, {name: torch.from_numpy(values) for name, values in arrays.items()}, {})
