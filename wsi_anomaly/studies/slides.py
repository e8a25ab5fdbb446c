"""A study slide by slide: first the raw scores of its controls, then every slide beside them.

A control slide is compared with the control animals other than its own, a treated one with all.
In a blinded reading that alone would tell them apart, because what is left out moves the
operating point that every report shows: there, each treated animal leaves out one control animal
too, drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from wsi_anomaly import __version__
from wsi_anomaly.core.errors import ModelError, WsiAnomalyError
from wsi_anomaly.core.files import config_hash
from wsi_anomaly.jobs import Progress
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.scoring import (
    Controls,
    ControlScores,
    ScoringModel,
    save_raw_scores,
    score_slide,
    scoring_settings,
)
from wsi_anomaly.screening.blinding import codes, private_folder, read_secret, secret_order
from wsi_anomaly.screening.slide import ScoreJob, job_of, result_folders
from wsi_anomaly.screening.slides import Scored, Scoring
from wsi_anomaly.slides import slide_fingerprint
from wsi_anomaly.studies.table import Cohort, CohortSlide
from wsi_anomaly.tiles.named import NamedSlides


@dataclass(frozen=True)
class ControlScoring(Scoring):
    """Raw scores of control slides; the folder of a job is the one file to write."""

    def kept(self, job: ScoreJob, model: ScoringModel) -> Scored | None:
        """Look for the file; its name tells slide, model and settings."""
        from wsi_anomaly.core.tensors import load_tensors

        try:
            tensors, _ = load_tensors(job.folder)
            return Scored({"fields": len(tensors["score"])}, kept=True)
        except (ModelError, KeyError):
            return None

    def score(self, job: ScoreJob, model: ScoringModel, report: Progress) -> Scored:
        """Score a slide; neither its name nor its animal is written."""
        options = job.options(_reference_options(self.options))
        found = score_slide(job.slide, model, options, progress=report)
        save_raw_scores(job.folder, found)
        return Scored({"fields": int(found.assessed.sum())})


def _reference_options(options: ScoreOptions) -> ScoreOptions:
    """Leave to the controls the options that decide raw scores; a reference never overlaps."""
    return ScoreOptions(
        mpp=options.mpp,
        min_tissue=options.min_tissue,
        tissue_mask=options.tissue_mask,
        origin=options.origin,
    )


def control_jobs(
    slides: Sequence[CohortSlide],
    model: ScoringModel,
    options: ScoreOptions,
    results: Path,
    named: NamedSlides,
) -> list[ScoreJob]:
    """Control slides to score for the reference.

    Those from which the model has learned are left out: it finds them too normal. So are those
    that cannot be read; scoring them says why.
    """
    folder = private_folder(results.absolute())
    jobs = []
    for slide in slides:
        try:
            mark = slide_fingerprint(slide.path)
            job = job_of(slide.path, folder, named)
            reference = job.options(_reference_options(options))
            settings = scoring_settings(slide.path, model, reference)
        except (OSError, WsiAnomalyError):
            continue
        if model.seen.get(mark) in {None, "calibration"}:
            name = config_hash(
                {"program": __version__, "model": model.hash, "slide": mark, "settings": settings}
            )
            jobs.append(replace(job, folder=folder / f"{name}.safetensors"))
    return jobs


@dataclass(frozen=True)
class ResultFolders:
    """Where the results of a study's slides go, and under which names.

    Attributes
    ----------
    folders
        By slide.
    names
        Code of each slide in a blinded reading, else empty.
    secret
        Of a blinded reading, else None.
    """

    folders: Mapping[Path, Path]
    names: Mapping[Path, str]
    secret: bytes | None

    @classmethod
    def of(cls, cohort: Cohort, results: Path, *, blinded: bool) -> ResultFolders:
        """Give every slide of a study its place."""
        paths = [slide.path for slide in cohort.slides]
        if not blinded:
            return cls(result_folders(paths, results), {}, None)
        secret = read_secret(results)
        names = codes(secret, paths)
        return cls({path: results / code for path, code in names.items()}, names, secret)


def slide_jobs(
    cohort: Cohort,
    organ: str,
    controls: Mapping[Path, Path],
    places: ResultFolders,
    named: NamedSlides,
) -> list[ScoreJob]:
    """Slides of one organ, each with its reference.

    Parameters
    ----------
    cohort, organ
        Which slides.
    controls
        File of raw scores of each control slide that has one.
    places
        Where results go.
    named
        What is known of single slides.
    """
    slides = cohort.of_organ(organ)
    every = Controls(
        tuple(ControlScores(s.animal, controls[s.path]) for s in slides if s.path in controls)
    )
    left_out = {s.animal: s.animal for s in slides if cohort.is_control(s)}
    order = list(slides)
    if places.secret is not None:
        left_out |= _drawn(cohort, slides, every, places.secret)
        order.sort(key=lambda s: places.names[s.path])
    return [
        replace(
            job_of(s.path, places.folders[s.path], named),
            controls=every.without(left_out[s.animal]) if s.animal in left_out else every,
            shown_as=places.names.get(s.path),
        )
        for s in order
    ]


def _drawn(
    cohort: Cohort, slides: Sequence[CohortSlide], every: Controls, secret: bytes
) -> dict[str, str]:
    """Control animal that each treated animal leaves out, all equally often."""
    animals = sorted({s.animal for s in every.scores}, key=lambda a: secret_order(secret, a))
    treated = sorted(
        {s.animal for s in slides if not cohort.is_control(s)},
        key=lambda a: secret_order(secret, a),
    )
    return {a: animals[i % len(animals)] for i, a in enumerate(treated)} if animals else {}


def blind(job: ScoreJob, error: str) -> tuple[str, str]:
    """Name and reason under which the worklist shows a slide that could not be scored."""
    if job.shown_as is None:
        return str(job.slide), error
    return job.shown_as, "It could not be scored; whoever holds the key can see why."


def for_reference(scoring: Scoring) -> ControlScoring:
    """Scoring of the controls beside the scoring of the slides."""
    return ControlScoring(**{f.name: getattr(scoring, f.name) for f in fields(scoring)})
