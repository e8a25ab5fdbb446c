"""``wsi-anomaly score --cohort``: a study with concurrent controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_anomaly.cli.common import console, noting, say, say_what_failed
from wsi_anomaly.core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_anomaly.cli.score_display import ScoreDisplay
    from wsi_anomaly.options import ScoreOptions
    from wsi_anomaly.scoring import ScoringModel
    from wsi_anomaly.screening import ScoreJob, ScoreOutcome, Scoring
    from wsi_anomaly.studies import Cohort, ResultFolders
    from wsi_anomaly.tiles.named import NamedSlides


def models_of_organs(given: Sequence[str], organs: Sequence[str]) -> dict[str, Path]:
    """Folder of the model of each organ.

    Parameters
    ----------
    given
        Values of ``--model``: ``organ=folder``, or one folder for all organs that have none of
        their own; by default model/ or the shipped model.
    organs
        Of the study.

    Raises
    ------
    UsageError
        An organ has none, or a model is for no organ of the study.
    """
    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.core.resources import find_model

    own: dict[str, Path] = {}
    for_all: Path | None = None
    for value in given:
        organ, equals, folder = value.partition("=")
        if not equals or Path(value).is_dir():
            if for_all is not None:
                raise UsageError(
                    f"--model {for_all} and --model {value} are both for all organs; write "
                    "--model ORGAN=FOLDER."
                )
            for_all = Path(value)
        elif organ not in organs:
            raise UsageError(
                f"--model {value} is for {organ}, which is no organ of this study, only "
                f"{', '.join(organs)} are."
            )
        else:
            own[organ] = Path(folder)
    lacking = [organ for organ in organs if organ not in own]
    if own and lacking and for_all is None:
        raise UsageError(
            f"There is no model for {lacking[0]}; give it with --model {lacking[0]}=FOLDER, or one "
            "for all other organs with --model FOLDER."
        )
    common = find_model(for_all) if lacking else Path()
    return {organ: own.get(organ, common) for organ in organs}


def run_cohort(
    slides: Sequence[Path],
    table: Path,
    models: Sequence[str],
    output: Path,
    options: ScoreOptions,
    *,
    control: str | None,
    blinded: bool,
    verbosity: int,
) -> int:
    """Score a study: its controls, then every slide beside them; tables and key come last.

    Parameters
    ----------
    slides, models, output, control, blinded, verbosity
        As the command takes them.
    table
        The study's CSV file; may be the manifest that stands for the slides.
    options
        What is computed, where, and what is written.
    """
    from wsi_anomaly.core.errors import UsageError
    from wsi_anomaly.core.files import make_folder
    from wsi_anomaly.reports import write_worklist
    from wsi_anomaly.results.trail import append_event
    from wsi_anomaly.scoring import load_model
    from wsi_anomaly.screening import Scoring, is_blinded, start_blinding
    from wsi_anomaly.slides.manifest import read_manifest
    from wsi_anomaly.studies import ResultFolders, cohort_of, read_cohort, write_cohort, write_key
    from wsi_anomaly.tiles.inputs import check_files
    from wsi_anomaly.tiles.named import named_slides

    if options.shard is not None:
        raise UsageError(
            "--cohort takes no --shard: every slide waits for the controls of the whole study; use "
            "--workers or --dask."
        )
    out = console(verbosity)
    named = named_slides(
        slides, noting(out), mpp_csv=options.mpp_csv, tissue_mask=options.tissue_mask
    )
    if options.tissue_mask is not None:
        check_files("--tissue-mask", Path(options.tissue_mask), named.slides)
    if [table] == list(slides):
        cohort = cohort_of(read_manifest(table), control)
    else:
        cohort = read_cohort(table, named.slides, control)
    scorings = {
        organ: Scoring.of(folder, options, len(cohort.slides))
        for organ, folder in models_of_organs(models, cohort.organs).items()
    }
    loaded = {organ: load_model(s.model, s.device_here) for organ, s in scorings.items()}
    make_folder(output)
    if blinded:
        start_blinding(output)
    places = ResultFolders.of(cohort, output, blinded=is_blinded(output))
    models_used = ", ".join(sorted({model.hash for model in loaded.values()}))
    facts = {"verb": "score", "model": models_used, "slides": len(cohort.slides)}
    append_event(output, "run", facts)
    note = (lambda _text: None) if blinded else noting(out)  # it names slides
    study = _Study(cohort, named, scorings, loaded, places, output, note)
    study.score_controls(out, verbosity, blinded=blinded)
    study.score_slides(out, verbosity)
    out.print(f"{len(study.done)} of {counted(len(cohort.slides), 'slide')} done.", markup=False)
    if blinded:
        key = write_key(output, cohort.slides, places.names, study.errors_by_code)
        study.say_codes_of_failed(key)
        say(
            out,
            f"Read blinded: open {output / 'index.html'}; keep {key} from the readers. Afterwards "
            "the same command without --blinded adds the tables by group.",
        )
    else:
        say_what_failed(study.failed)
        names = {organ: model.name for organ, model in loaded.items()}
        page = write_cohort(output, cohort, study.done, table=table, models=names, options=options)
        write_worklist(output)  # now with a link to the study
        say(out, f"Open {page}")
    return 1 if study.failed else 0


class _Study:
    """A study under way.

    Attributes
    ----------
    done
        Results folder of each slide that is scored.
    failed
        Slides that could not be scored.
    errors_by_code
        Why they could not.
    """

    def __init__(
        self,
        cohort: Cohort,
        named: NamedSlides,
        scorings: Mapping[str, Scoring],
        models: Mapping[str, ScoringModel],
        places: ResultFolders,
        output: Path,
        note: Callable[[str], None],
    ) -> None:
        self.note = note
        self.cohort, self.named, self.scorings, self.models = cohort, named, scorings, models
        self.places, self.output = places, output
        self._controls: dict[Path, Path] = {}
        self.done: dict[Path, Path] = {}
        self.failed: list[ScoreOutcome] = []
        self.errors_by_code: dict[str, str] = {}

    def say_codes_of_failed(self, key: Path) -> None:
        """Print what a blinded reader may see of slides that could not be scored."""
        for code in self.errors_by_code:
            click.echo(f"Error: {code} could not be scored; {key} says why.", err=True)

    def score_controls(self, out: Console, verbosity: int, *, blinded: bool) -> None:
        """Find the raw scores of the control slides."""
        from wsi_anomaly.cli.score_display import BlindControlDisplay, ControlDisplay
        from wsi_anomaly.studies import control_jobs, for_reference

        cohort = self.cohort
        jobs = {
            organ: control_jobs(
                [s for s in cohort.of_organ(organ) if cohort.is_control(s)],
                self.models[organ],
                scoring.options,
                self.output,
                self.named,
            )
            for organ, scoring in self.scorings.items()
        }
        shown = BlindControlDisplay if blinded else ControlDisplay
        with shown(out, sum(map(len, jobs.values())), verbosity) as display:
            for organ, scoring in self.scorings.items():
                for outcome in self._run(jobs[organ], organ, for_reference(scoring), display):
                    # What fails here fails again as a slide of the study, and is named then.
                    if not outcome.error:
                        self._controls[outcome.job.slide] = outcome.job.folder

    def score_slides(self, out: Console, verbosity: int) -> None:
        """Score every slide; the worklist is kept up to date."""
        from wsi_anomaly.cli.score_display import ScoreDisplay
        from wsi_anomaly.reports import Worklist
        from wsi_anomaly.studies import blind, slide_jobs

        count = len(self.cohort.slides)
        with ScoreDisplay(out, count, verbosity) as display, Worklist(self.output) as worklist:
            for organ, scoring in self.scorings.items():
                jobs = slide_jobs(self.cohort, organ, self._controls, self.places, self.named)
                for outcome in self._run(jobs, organ, scoring, display):
                    slide = outcome.job.slide
                    name, reason = blind(outcome.job, outcome.error)
                    if outcome.error:
                        self.failed.append(outcome)
                        self.errors_by_code[name] = outcome.error
                        worklist.failed(name, reason)
                    else:
                        self.done[slide] = outcome.job.folder
                        worklist.done(name)

    def _run(
        self, jobs: Sequence[ScoreJob], organ: str, scoring: Scoring, display: ScoreDisplay
    ) -> Iterator[ScoreOutcome]:
        from contextlib import closing

        from wsi_anomaly.screening import score_slides

        outcomes = score_slides(
            jobs, self.models[organ], scoring, watch=display.running, note=self.note
        )
        with closing(outcomes):
            for outcome in outcomes:
                display.finished(outcome)
                yield outcome
