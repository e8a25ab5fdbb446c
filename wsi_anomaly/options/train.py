"""Options of ``train``, ``tune`` and ``calibrate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.options.checks import MAGNIFICATIONS, check_slides, make_floats

CRITERIA = ("roc-auc", "reconstruction")
SEARCHED = ("dpa", "density")
"""Methods that ``tune`` can choose among."""


@dataclass(frozen=True)
class TrainOptions:
    """Everything that ``train`` may be asked for beside its configuration.

    Attributes
    ----------
    detector, features, magnification, seed
        Over those of the configuration; None: as it says.
    feature_weights
        Weights of the perceptual network, when it does not ship with the program.
    anomalies
        Tile files of a few known abnormal tiles: for ``fusion``, never trained on.
    device
        Where to compute: "cpu", "cuda", or "auto", a GPU if there is one.
    resume
        Go on with an unfinished run of the same configuration and tiles.
    embeddings
        Folder of embeddings that another program has made of normal slides; they are learned from
        in place of tiles, and `features` says whose they are where there are several.
    cases
        Patient or animal of the slides of embeddings: a table of ``slide,case``, or a mapping; by
        default every slide is a case of its own. Tile files know theirs.
    """

    detector: str | None = None
    features: str | None = None
    feature_weights: str | Path | None = None
    magnification: int | None = None
    anomalies: Sequence[str | Path] = ()
    seed: int | None = None
    device: str = "auto"
    resume: bool = True
    embeddings: str | Path | None = None
    cases: str | Path | Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.cases is not None and self.embeddings is None:
            raise UsageError(
                "Tile files know their cases (tile --cases); --cases goes with --embeddings."
            )


class TrainKeywords(TypedDict, total=False):
    """The fields of :class:`TrainOptions`, for callers that name them one by one."""

    detector: str | None
    features: str | None
    feature_weights: str | Path | None
    magnification: int | None
    anomalies: Sequence[str | Path]
    seed: int | None
    device: str
    resume: bool
    embeddings: str | Path | None
    cases: str | Path | Mapping[str, str] | None


@dataclass(frozen=True)
class TuneOptions:
    """Everything that ``tune`` may be asked for beside its configuration.

    Attributes
    ----------
    trials
        Trials in all, those of earlier runs and of other processes included.
    folds
        Each case is judged in one of so many folds (no more than there are cases).
    criterion
        "roc-auc": of held-out normal tiles against the anomalies. "reconstruction": loss of
        held-out normal tiles, without anomalies.
    detectors
        Methods to choose among: "dpa" and "density"; none named: both.
    magnifications
        Magnifications to choose among; none named: all that the tile files hold.
    networks
        Perceptual networks to choose among, with files of their weights where they cannot be
        downloaded; none named: that of the configuration.
    storage
        Address of a database, as Optuna takes it; processes with the same one share the trials.
        None: a file in the output folder.
    seed
        Of the cases' split and of the search; None: that of the configuration.
    device
        Where to compute: "cpu", "cuda", or "auto", a GPU if there is one.
    resume
        Go on with the search that is there.
    """

    trials: int = 30
    folds: int = 3
    criterion: str = "roc-auc"
    detectors: Sequence[str] = ()
    magnifications: Sequence[int] = ()
    networks: Mapping[str, str | Path | None] | None = None
    storage: str | None = None
    seed: int | None = None
    device: str = "auto"
    resume: bool = True

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise UsageError(f"The criteria are {' and '.join(CRITERIA)}, not {self.criterion!r}.")
        if self.trials < 1:
            raise UsageError(
                f"A search has at least 1 trial, not {self.trials}; give --trials 30, say."
            )
        if self.folds < 2:
            raise UsageError(
                f"A search has at least 2 folds, not {self.folds}; give --folds 3, say."
            )
        if not set(self.magnifications) <= set(MAGNIFICATIONS):
            raise UsageError("Magnifications are any of 10, 20 and 40.")
        object.__setattr__(self, "detectors", tuple(self.detectors) or SEARCHED)
        object.__setattr__(self, "magnifications", tuple(self.magnifications) or MAGNIFICATIONS)


class TuneKeywords(TypedDict, total=False):
    """The fields of :class:`TuneOptions`, for callers that name them one by one."""

    trials: int
    folds: int
    criterion: str
    detectors: Sequence[str]
    magnifications: Sequence[int]
    networks: Mapping[str, str | Path | None] | None
    storage: str | None
    seed: int | None
    device: str
    resume: bool


@dataclass(frozen=True)
class CheckOptions:
    """Everything that ``check`` may be asked for.

    Attributes
    ----------
    mpp, mpp_csv
        Micrometres per pixel of all slides, and a table of ``slide,mpp`` for single ones.
    scene
        Which of several images in a file is the slide, from 1; None: the largest.
    device
        Where to compute: "cpu", "cuda", or "auto", a GPU if there is one.
    embeddings
        Folder of embeddings that another program has made of the slides' fields; they are scored
        in place of pixels.
    """

    mpp: float | None = None
    mpp_csv: str | Path | None = None
    scene: int | None = None
    device: str = "auto"
    embeddings: str | Path | None = None

    def __post_init__(self) -> None:
        make_floats(self, "mpp")
        check_slides(self.mpp, scene=self.scene)


class CheckKeywords(TypedDict, total=False):
    """The fields of :class:`CheckOptions`, for callers that name them one by one."""

    mpp: float | None
    mpp_csv: str | Path | None
    scene: int | None
    device: str
    embeddings: str | Path | None


@dataclass(frozen=True)
class CalibrateOptions(CheckOptions):
    """Everything that ``calibrate`` may be asked for: as ``check``, and whose slides they are.

    Attributes
    ----------
    cases
        Patient or animal by slide: a table of ``slide,case``, or a mapping; by default every slide
        is a case of its own.
    """

    cases: str | Path | Mapping[str, str] | None = None


class CalibrateKeywords(CheckKeywords, total=False):
    """The fields of :class:`CalibrateOptions`, for callers that name them one by one."""

    cases: str | Path | Mapping[str, str] | None


@dataclass(frozen=True)
class LearnOptions:
    """Everything that ``learn`` may be asked for.

    Attributes
    ----------
    cases
        Patient or animal by slide: a table of ``slide,case``, or a mapping; by default every slide
        is a case of its own.
    slides
        Where the slides lie now, if they are not where they were scored.
    embeddings
        Folder of the embeddings that results were scored from.
    device
        Where to compute: "cpu", "cuda", or "auto", a GPU if there is one.
    """

    cases: str | Path | Mapping[str, str] | None = None
    slides: str | Path | None = None
    embeddings: str | Path | None = None
    device: str = "auto"


class LearnKeywords(TypedDict, total=False):
    """The fields of :class:`LearnOptions`, for callers that name them one by one."""

    cases: str | Path | Mapping[str, str] | None
    slides: str | Path | None
    embeddings: str | Path | None
    device: str
