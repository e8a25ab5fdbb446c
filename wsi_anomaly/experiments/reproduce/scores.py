"""A cell on disk: its scores, its figures, and where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.core.ranking import roc_auc

_TOP_SHARE = 0.1  # of a slide's tiles, whose mean is its score


@dataclass(frozen=True)
class Scores:
    """Raw scores of a cell; higher is more anomalous.

    Attributes
    ----------
    judge, abnormal, group, kind
        (M,) score of each judged image, whether it is abnormal, what it comes from, what it shows.
    normal, known
        Scores of the normal images that were set aside, and of the known anomalies.
    """

    judge: NDArray[np.float64]
    abnormal: NDArray[np.bool_]
    group: NDArray[np.intp]
    kind: NDArray[np.str_]
    normal: NDArray[np.float64]
    known: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file, whole or not at all."""
        with atomic_file(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read what :meth:`save` wrote.

        Raises
        ------
        UsageError
            It is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(**{name: file[name] for name in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"{path} is missing or damaged; delete it and the file beside it to have the cell "
                "computed again."
            ) from error

    def auc(self) -> float:
        """ROC AUC of the judged images; NaN when one of them has no score."""
        return roc_auc(self.judge[~self.abnormal], self.judge[self.abnormal])

    def slide_auc(self) -> float | None:
        """ROC AUC of the groups by the mean of their top tenth; None where all are single."""
        groups = np.unique(self.group)
        if len(groups) == len(self.group):
            return None
        top, abnormal = [], []
        for group in groups:
            mine = np.sort(self.judge[self.group == group])
            top.append(mine[-max(1, round(_TOP_SHARE * len(mine))) :].mean())
            abnormal.append(bool(self.abnormal[self.group == group].any()))
        if len(set(abnormal)) < 2:
            return None
        score, is_abnormal = np.array(top), np.array(abnormal)
        return roc_auc(score[~is_abnormal], score[is_abnormal])


@dataclass(frozen=True)
class Place:
    """Where a cell lies, and what it is."""

    folder: Path
    row: str
    problem: str
    seed: int
    settings: Mapping[str, Any]

    @property
    def figures(self) -> Path:
        """JSON file; a cell is done when it is there."""
        return self.folder / f"{self.problem}-{self.seed}.json"

    @property
    def scores(self) -> Path:
        """Scores beside it."""
        return self.figures.with_suffix(".npz")

    @property
    def training(self) -> Path:
        """Folder of an unfinished training, from which it goes on."""
        return self.figures.with_suffix(".training")

    @property
    def done(self) -> bool:
        """Whether nothing is left to compute."""
        return self.figures.is_file()

    def read(self) -> dict[str, Any]:
        """Figures of a finished cell.

        Raises
        ------
        UsageError
            The file is damaged.
        """
        try:
            cell: dict[str, Any] = json.loads(self.figures.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.figures} is damaged; delete it to have the cell computed again."
            ) from error
        return cell
