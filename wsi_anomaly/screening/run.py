"""``score``: slides and a model in, results folders and the worklist out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from wsi_anomaly.core.devices import passed_over
from wsi_anomaly.core.files import make_folder
from wsi_anomaly.core.resources import trained_model
from wsi_anomaly.core.wording import some
from wsi_anomaly.jobs import Watch, parse_shard, take_shard
from wsi_anomaly.options import ScoreOptions
from wsi_anomaly.reports.worklist import Worklist
from wsi_anomaly.results.reviews import FOLDER as REVIEWS
from wsi_anomaly.results.trail import append_event
from wsi_anomaly.scoring import ScoringModel, grid_of, load_model
from wsi_anomaly.screening.blinding import check_names_may_be_shown
from wsi_anomaly.screening.embedded import Embedded, embedded_slides
from wsi_anomaly.screening.slide import ScoreJob, changed_since, job_of, result_folders
from wsi_anomaly.screening.slides import ScoreOutcome, Scoring, score_slides
from wsi_anomaly.slides import Listing, Other
from wsi_anomaly.slides.listing import PART
from wsi_anomaly.tiles.inputs import check_files, check_marked
from wsi_anomaly.tiles.named import NamedSlides, Note, cases_of, named_slides


@dataclass(frozen=True)
class ScoreRun:
    """Slides that are to be scored, each with its folder.

    Attributes
    ----------
    output
        Folder of results.
    jobs
        The slides.
    model
        The model, loaded.
    scoring
        How they are scored.
    listing
        Everything that lies where slides were looked for.
    cases
        Patient or animal of those slides that a table names.
    note
        Told what the user should read.
    """

    output: Path
    jobs: Sequence[ScoreJob]
    model: ScoringModel
    scoring: Scoring
    listing: Listing
    cases: Mapping[Path, str]
    note: Note = lambda _text: None

    @classmethod
    def plan(
        cls,
        slides: Sequence[str | Path],
        model: str | Path | None,
        output: str | Path,
        options: ScoreOptions,
        *,
        note: Note = lambda _text: None,
    ) -> Self:
        """Find the slides, the model and the folders.

        Parameters
        ----------
        slides
            Slides, folders of them, or a manifest.
        model
            Its folder; None: ``model/``, and where there is none each slide is its own reference.
        output
            Folder of results.
        options
            What is computed, where, and what is written.
        note
            Told what the user should read.

        Raises
        ------
        WsiAnomalyError
            A path does not exist, an option makes no sense, or the model cannot be used.
        """
        part = parse_shard(options.shard)
        named = NamedSlides()
        if slides or options.embeddings is None:
            named = named_slides(
                slides,
                note,
                mpp_csv=options.mpp_csv,
                cases=None if options.embeddings else options.cases,
                tissue_mask=options.tissue_mask,
            )
        embedded: dict[Path, Embedded] = {}
        cases = dict(named.cases)
        if options.embeddings is not None:
            whole = not slides or any(Path(place).is_dir() for place in slides)
            matched = embedded_slides(named.slides, options.embeddings, note, whole=whole)
            embedded = {one.slide: one for one in matched}
            cases |= cases_of(tuple(embedded), options.cases, note)
        if options.tissue_mask is not None:
            check_files("--tissue-mask", Path(options.tissue_mask), named.slides)
        if options.normal is not None:
            check_marked(Path(options.normal), named.slides, note)
        found = tuple(embedded) or named.slides
        run = cls.ready(model, output, options, len(take_shard(found, part)), note=note)
        run = run.of(found, replace(named, cases=cases), part)
        if not embedded:
            return run
        jobs = [
            replace(job, embeddings=one.file, pixels=one.pixels, problem=one.problem)
            for job, one in ((job, embedded[job.slide]) for job in run.jobs)
        ]
        return replace(run, jobs=jobs)

    @classmethod
    def ready(
        cls,
        model: str | Path | None,
        output: str | Path,
        options: ScoreOptions,
        slides: int,
        *,
        note: Note = lambda _text: None,
    ) -> Self:
        """Load the model and make the folder for about so many slides, none of them known yet.

        Raises
        ------
        WsiAnomalyError
            An option makes no sense, or the model cannot be used.
        """
        from wsi_anomaly.scoring.embedded import check_kind  # heavy, as models are

        output = Path(output)
        if not options.dask and (slower := passed_over(options.device)):
            note(slower)
        scoring = Scoring.of(trained_model(model), options, slides)
        check_names_may_be_shown(output)
        loaded = load_model(scoring.model, scoring.device_here)
        grid_of(loaded, options.stride_um)  # wrong usage, not a fault of every slide
        check_kind(
            loaded,
            given=options.embeddings is not None,
            asked=options.embeddings_out is not None,
        )
        return cls(make_folder(output), (), loaded, scoring, Listing((), ()), {}, note)

    def of(
        self, slides: Sequence[Path], named: NamedSlides, part: tuple[int, int] = (1, 1)
    ) -> Self:
        """Return the same for a part of these slides, of which tables may say more."""
        folders = result_folders(slides, self.output)  # names are those of the whole run
        jobs = take_shard([job_of(path, folders[path], named) for path in slides], part)
        if changed := changed_since(jobs):
            self.note(
                f"{some([slide.name for slide in changed], 1)} changed after being scored; a new "
                "result takes the place of the former file's, whose reviews stay in "
                f"{self.output / REVIEWS}."
            )
        return replace(self, jobs=jobs, listing=named.listing, cases=named.cases)

    def outcomes(self, watch: Watch[ScoreJob] | None = None) -> Generator[ScoreOutcome]:
        """Score them; the worklist is kept up to date.

        Yields
        ------
        Each slide as it is done, those that are kept first.

        Raises
        ------
        OutputError
            The results cannot be written; what is finished stays.
        """
        facts = {"verb": "score", "model": self.model.hash, "slides": len(self.jobs)}
        if self.scoring.model is not None:
            facts["model_folder"] = str(Path(self.scoring.model).absolute())
        append_event(self.output, "run", facts)
        outcomes = score_slides(self.jobs, self.model, self.scoring, watch=watch, note=self.note)
        with closing(outcomes), Worklist(self.output) as worklist:
            worklist.beside([*self.listing.others, *_copies(self.jobs)])
            worklist.name_cases(self._cases_by_name())
            for outcome in outcomes:
                name = str(outcome.job.slide)
                if outcome.error:
                    worklist.failed(name, outcome.error)
                else:
                    worklist.done(name)
                yield outcome

    def _cases_by_name(self) -> dict[str, str]:
        """Cases by the folder of a result, and by the path of a slide that may have none."""
        named = [(job, self.cases[job.slide]) for job in self.jobs if job.slide in self.cases]
        return {name: case for job, case in named for name in (job.folder.name, str(job.slide))}


def _copies(jobs: Sequence[ScoreJob]) -> Iterator[Other]:
    """Slides of one name and one content, which share a result."""
    sharing = Counter(job.folder for job in jobs)
    for job in jobs:
        if sharing[job.folder] > 1:
            yield Other(job.slide, PART, f"a copy: {job.folder.name} is its result too")
