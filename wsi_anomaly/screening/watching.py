"""Slides that arrive in folders, scored one after another as they come to rest.

Folders are asked again and again, not watched by the system: network disks, on which scanners
write, tell no other machine what changes.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.screening.run import ScoreRun
from wsi_anomaly.screening.slides import ScoreOutcome
from wsi_anomaly.slides import list_slides
from wsi_anomaly.slides.opening import may_be_dicom
from wsi_anomaly.tiles.named import Note, named_slides

SETTLE_S = 60.0
"""Seconds without a change after which a slide has arrived, by default."""

_LONGEST_PAUSE_S = 10.0
_SHARE = 10  # at most a tenth of the time goes into looking
_WITH_FILES_BESIDE = (".vms", ".vmu")

Mark = tuple[tuple[str, int, int], ...]


class Arrivals:
    """Which slides of some folders have come to rest, and were not tried as they are now.

    What is known of a slide is forgotten when it goes, so memory is bounded by what is there.

    Parameters
    ----------
    folders
        Where slides arrive.
    settle_s
        Seconds for which the size and time of every file of a slide stay the same.
    note
        Told what the user should read.
    """

    def __init__(self, folders: Sequence[Path], settle_s: float, note: Note) -> None:
        self._folders = folders
        self._settle_s = settle_s
        self._note = note
        self._since: dict[Path, tuple[Mark, float]] = {}
        self._tried: dict[Path, Mark] = {}
        self._away: set[Path] = set()

    def at_rest(self) -> list[Path]:
        """Look once; each slide is given again only when it has changed."""
        now = time.monotonic()
        slides = self._listed()
        for gone in self._since.keys() - set(slides):
            del self._since[gone]
            if self._tried.pop(gone, None) is None:
                self._note(f"{gone} has gone before it was scored; it is scored when it is back.")
        ready = []
        for slide in slides:
            mark = mark_of(slide)
            former, since = self._since.get(slide, (None, now))
            if not mark or mark != former:
                self._since[slide] = mark, now
            elif now - since >= self._settle_s and self._tried.get(slide) != mark:
                self._tried[slide] = mark
                ready.append(slide)
        return ready

    def again(self, slides: Sequence[Path]) -> None:
        """Give slides again though they have not changed."""
        for slide in slides:
            self._tried.pop(slide, None)

    def _listed(self) -> tuple[Path, ...]:
        there = [folder for folder in self._folders if folder.is_dir()]
        away = set(self._folders) - set(there)
        for folder in sorted(away - self._away):
            self._note(f"{folder} cannot be opened; it is looked for again.")
        self._away = away
        try:
            return list_slides(there).slides
        except UsageError:  # none yet
            return ()


def mark_of(slide: Path) -> Mark:
    """Names, sizes and times of all files of a slide, which change as long as it is written.

    A folder beside the file goes with it (MIRAX, DeepZoom), and so do the other files of its
    folder where a slide is several files (DICOM). Empty where none can be asked.
    """
    marks = []
    for file in _files_of(slide):
        try:
            facts = file.stat()
        except OSError:  # gone meanwhile
            continue
        if stat.S_ISREG(facts.st_mode):
            marks.append((str(file), facts.st_size, facts.st_mtime_ns))
    return tuple(sorted(marks))


def _files_of(slide: Path) -> Iterator[Path]:
    yield slide
    for beside in (slide.with_suffix(""), slide.with_name(f"{slide.stem}_files")):
        for folder, _, names in os.walk(beside) if beside != slide else ():
            yield from (Path(folder, name) for name in names)
    if may_be_dicom(slide) or slide.suffix.lower() in _WITH_FILES_BESIDE:
        try:
            yield from (path for path in slide.parent.iterdir() if path != slide)
        except OSError:
            return


def score_arrivals(
    run: ScoreRun,
    folders: Sequence[Path],
    *,
    settle_s: float = SETTLE_S,
    note: Note,
    sleep: Callable[[float], None] = time.sleep,
) -> Generator[ScoreOutcome]:
    """Score what is in folders and what arrives there, without end; the worklist grows with it.

    A slide that cannot be scored is tried again when it changes. Stopped at any moment, the same
    call goes on: results that are whole are kept.

    Parameters
    ----------
    run
        Model, options and folder of results (:meth:`ScoreRun.ready`).
    folders
        Where slides arrive.
    settle_s
        See :class:`Arrivals`.
    note
        Told what the user should read.
    sleep
        Waits between two looks.

    Yields
    ------
    Each slide as it is done, those that are kept first.

    Raises
    ------
    OutputError
        The results cannot be written; what is finished stays.
    """
    options, said = run.scoring.options, ""
    arrivals = Arrivals(folders, settle_s, note)
    while True:
        started = time.monotonic()
        slides = arrivals.at_rest()
        pause = max(min(settle_s / 4, _LONGEST_PAUSE_S), _SHARE * (time.monotonic() - started))
        if slides:
            try:
                named = named_slides(slides, _unheard, mpp_csv=options.mpp_csv, cases=options.cases)
            except UsageError as error:  # a table that is being edited, a slide that went
                if str(error) != said:
                    note(said := str(error))
                arrivals.again(slides)
            else:
                with closing(run.of(named.slides, named).outcomes()) as outcomes:
                    yield from outcomes
                continue
        sleep(pause)


def _unheard(_sentence: str) -> None:
    """Say nothing: a table may name slides that have not arrived."""
