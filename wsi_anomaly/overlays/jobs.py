"""One slide from file to results folder: what the command line does for each slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from wsi_anomaly.core.errors import AnnotationError
from wsi_anomaly.core.files import fingerprint, output_name
from wsi_anomaly.core.remote import from_anywhere
from wsi_anomaly.jobs import Progress
from wsi_anomaly.overlays.frame import Origin
from wsi_anomaly.overlays.results import write_results
from wsi_anomaly.overlays.summary import result_hash
from wsi_anomaly.overlays.worklist import read_summary
from wsi_anomaly.scoring import Controls, ScoreMap, ScoringModel, score_slide, scoring_settings
from wsi_anomaly.slides import open_slide
from wsi_anomaly.tiles.inputs import file_for


class ScoringChoices(TypedDict):
    """Options that decide the scores."""

    stride_um: float | None
    min_tissue: float
    mpp: float | None
    false_regions: float
    fdr: float | None
    pixel_map: bool
    tissue_mask: Path | None
    controls: Controls | None


@dataclass(frozen=True)
class ScoreOptions:
    """How slides are scored and what is written; see :func:`wsi_anomaly.scoring.score_slide`.

    `mpp_of` has pixel sizes of single slides, by their path from anywhere, over `mpp`, which is
    that of all. With `shown_as` the results show a slide under that name, and nowhere under its
    own.
    """

    stride_um: float | None = None
    min_tissue: float = 0.1
    mpp: float | None = None
    false_regions: float = 1.0
    fdr: float | None = None
    pixel_map: bool = False
    tissue_mask: Path | None = None
    heatmap: bool = False
    origin: Origin = "bounds"
    gzip: bool = False
    controls: Controls | None = None
    backend: str = "auto"
    shown_as: str | None = None
    mpp_of: Mapping[Path, float] = field(default_factory=dict)

    def scoring(self, slide: Path) -> ScoringChoices:
        """Those that :func:`~wsi_anomaly.scoring.score_slide` takes for one slide.

        Raises
        ------
        AnnotationError
            The folder of tissue masks has none for the slide.
        """
        mask = None if self.tissue_mask is None else file_for(self.tissue_mask, slide)
        return {
            "stride_um": self.stride_um,
            "min_tissue": self.min_tissue,
            "mpp": self.mpp_of.get(from_anywhere(slide), self.mpp),
            "false_regions": self.false_regions,
            "fdr": self.fdr,
            "pixel_map": self.pixel_map,
            "tissue_mask": mask,
            "controls": self.controls,
        }


def result_folders(slides: Sequence[Path], results: Path) -> dict[Path, Path]:
    """Folder of each slide: its name, with the fingerprint where names would collide.

    Names collide within a run, and with an older result of another slide of the same name.
    """
    names = Counter(output_name(path) for path in slides)
    out = {}
    for path in slides:
        name = output_name(path)
        folder = results / name
        older = _slide_of(folder)
        taken = older is not None and older != _identity(path)
        if names[name] > 1 or taken:
            folder = results / f"{name}-{_identity(path)}"
        out[path] = folder
    return out


def _slide_of(folder: Path) -> str | None:
    """Fingerprint of the slide that an older result is of."""
    facts = (read_summary(folder) or {}).get("slide")
    return str(facts["fingerprint"]) if isinstance(facts, dict) and "fingerprint" in facts else None


def _identity(path: Path) -> str:
    try:
        return fingerprint(path)
    except OSError:
        return "unreadable"  # scoring it will say what is wrong


def is_done(path: Path, model: ScoringModel, folder: Path, options: ScoreOptions) -> bool:
    """Whether `folder` holds this very result, whole: slide, model, settings and program."""
    summary = read_summary(folder)
    if summary is None or not _is_whole(folder, summary):
        return False
    try:
        settings = scoring_settings(model, **options.scoring(path))
    except (AnnotationError, OSError):
        return False  # scoring it will say what is wrong
    identity = result_hash(
        model.hash,
        _identity(path),
        settings,
        heatmap=options.heatmap,
        origin=options.origin,
        gzip=options.gzip,
    )
    return bool(summary.get("result_hash") == identity)


def _is_whole(folder: Path, summary: Mapping[str, Any]) -> bool:
    """Whether every file that a summary names is there still."""
    files = summary.get("files")
    return isinstance(files, dict) and all((folder / str(name)).exists() for name in files.values())


def score_to_folder(
    path: Path,
    model: ScoringModel,
    folder: Path,
    options: ScoreOptions | None = None,
    progress: Progress | None = None,
) -> ScoreMap:
    """Score a slide and write its results folder.

    Raises
    ------
    WsiAnomalyError
        The slide cannot be scored, or the results cannot be written; nothing is left behind.
    """
    options = options or ScoreOptions()
    choices = options.scoring(path)
    with open_slide(path, mpp=choices["mpp"], backend=options.backend) as slide:
        score_map = score_slide(slide, model, progress=progress, **choices)
        if options.shown_as is not None:
            name = options.shown_as
            score_map = replace(score_map, slide=replace(score_map.slide, name=name, path=name))
        write_results(
            score_map,
            slide,
            folder,
            heatmap=options.heatmap,
            origin=options.origin,
            gzip=options.gzip,
        )
    return score_map
