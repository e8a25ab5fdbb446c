"""What readers decided about places of a slide, kept for good beside the results.

``results/reviews/<name>-<fingerprint>/<reader>.jsonl``: one decision a line, only ever added to,
and outside the folder that ``score`` replaces. The fingerprint says which slide it is; the name is
for people. A decision carries its outline in level-0 pixels of the file, so that it is found again
after another scoring, model or stride (:mod:`wsi_anomaly.results.review_matching`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from wsi_anomaly import __version__
from wsi_anomaly.annotations import area_from_geojson, geojson_geometry
from wsi_anomaly.core.errors import OutputError, UsageError, WsiAnomalyError
from wsi_anomaly.core.file_names import output_name
from wsi_anomaly.core.files import make_folder, output_errors, to_disk
from wsi_anomaly.results.overlaps import Area, same_place
from wsi_anomaly.results.trail import append_event

FOLDER = "reviews"
"""Folder in the results; no slide's results have this name."""
VERSION = 1
VERDICTS = ("abnormal", "normal variant", "artefact", "unsure")
WITHDRAWN = "withdrawn"
HARMLESS = ("normal variant", "artefact")
"""Verdicts that say that a flag was none."""

LONGEST_FINDING, LONGEST_NOTE = 200, 4000
_LONGEST_TEXT = 500
_LONGEST_LINE = 4 << 20
_LARGEST_FILE = 256 << 20
_MOST_READERS = 100
_READER = re.compile(r"[^\W_][\w.@ +-]{0,63}")


@dataclass(frozen=True, eq=False)
class Review:
    """One decision of one reader about one place.

    Attributes
    ----------
    reader, slide, identity
        Who, and which slide: the name that the results show, and its fingerprint.
    verdict
        One of :data:`VERDICTS`, or :data:`WITHDRAWN` for one that takes another back.
    outline
        The place, level-0 pixels of the file.
    finding, note
        What it is, in the reader's words.
    score
        Highest smoothed score there, None where there is none.
    measures
        Numbers of the region by name, such as ``area_mm2``.
    model, result
        Hash of the model, and of the result that the reader looked at.
    region
        Number of the region in that result, from 1; None for a place that was not flagged.
    withdraws
        Of a withdrawal, the decision that no longer counts.
    kind
        The kind of regions that was reviewed as one, empty for a decision about this place alone.
    program, time, id
        Version of the program, UTC in ISO format, and a name of its own for the decision.
    """

    reader: str
    slide: str
    identity: str
    verdict: str
    outline: Area
    finding: str = ""
    note: str = ""
    score: float | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    result: str = ""
    region: int | None = None
    withdraws: str = ""
    kind: str = ""
    program: str = __version__
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        check_reader(self.reader)
        if self.verdict not in (*VERDICTS, WITHDRAWN):
            raise UsageError(f"A verdict is {', '.join(VERDICTS)}, not {self.verdict[:50]!r}.")
        if len(self.finding) > LONGEST_FINDING or len(self.note) > LONGEST_NOTE:
            raise UsageError(
                f"A finding has at most {LONGEST_FINDING} characters, a note {LONGEST_NOTE}; "
                "shorten it."
            )

    def line(self) -> bytes:
        """Give it as a line of its file."""
        entry = {"version": VERSION, **vars(self), "outline": geojson_geometry(self.outline)}
        return orjson.dumps(entry) + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Read a line of a file that anybody may have written.

        Raises
        ------
        ValueError, WsiAnomalyError
            It is no decision.
        """
        entry = orjson.loads(line)
        if not isinstance(entry, dict) or entry.get("version") != VERSION:
            raise ValueError(f"it is no review of version {VERSION}")
        texts = {name: _text(entry, name) for name in _TEXTS}
        measures = entry.get("measures") or {}
        if not isinstance(measures, dict) or len(measures) > 100:
            raise ValueError("its measures are no numbers")
        region = entry.get("region")
        if region is not None and type(region) is not int:
            raise ValueError("its region is no number")
        return cls(
            **texts,
            outline=area_from_geojson(entry.get("outline")),
            score=None if entry.get("score") is None else _number(entry["score"]),
            measures={str(name)[:100]: _number(value) for name, value in measures.items()},
            region=region,
        )

    def withdrawal(self) -> Review:
        """Make the entry that takes this one back."""
        return Review(
            self.reader, self.slide, self.identity, WITHDRAWN, self.outline, model=self.model,
            result=self.result, region=self.region, withdraws=self.id,
        )  # fmt: skip


_TEXTS = ("reader", "slide", "identity", "verdict", "finding", "note", "model", "result",
          "withdraws", "kind", "program", "time", "id")  # fmt: skip


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name, "")
    longest = LONGEST_NOTE if name == "note" else _LONGEST_TEXT
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"its {name} is no text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a measure is no number")
    return float(value)


def check_reader(name: str) -> str:
    """See that a reader's name can be that of a file on any disk.

    Raises
    ------
    UsageError
        It cannot.
    """
    if not _READER.fullmatch(name) or name[-1] in ". ":
        raise UsageError(
            f"{name[:70]!r} cannot be a reader's name: letters, digits and . @ + - _ between them, "
            "at most 64."
        )
    return name


def folder_of(results: Path, name: str, fingerprint: str) -> Path:
    """Folder of a slide's reviews: the one that has its fingerprint, whatever its name was then.

    Parameters
    ----------
    results
        Folder of results.
    name, fingerprint
        The slide as its summary shows it.

    Raises
    ------
    OutputError
        The fingerprint is none.
    """
    if not re.fullmatch(r"[0-9a-f]{16}", fingerprint):
        raise OutputError(
            f"The result of {name} names no slide by its content; score the slide again."
        )
    there = sorted((results / FOLDER).glob(f"*-{fingerprint}"))
    # The first that was made keeps its name when a blinded slide gets its own back.
    return there[0] if there else results / FOLDER / f"{output_name(name)}-{fingerprint}"


def append_review(results: Path, review: Review) -> None:
    """Add a decision to the reader's file; once this returns it is on the disk.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    folder = make_folder(folder_of(results, review.slide, review.identity))
    path, line = folder / f"{review.reader}.jsonl", review.line()
    with output_errors(path):
        is_new = not path.exists()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            size = os.fstat(handle).st_size
            # A line that a killed program has left unfinished ends here, or it would spoil ours.
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(handle, line) != len(line):
                raise OutputError(f"{path} cannot be written: the disk is full; free some space.")
            os.fsync(handle)
        finally:
            os.close(handle)
        if is_new:  # the name of a new file, and of its folders
            for parent in (folder, folder.parent, results):
                to_disk(parent)
    facts = {
        "reader": review.reader, "slide": review.slide,
        "file": path.relative_to(results).as_posix(),
        "line_sha256": hashlib.sha256(review.line()).hexdigest(),
    }  # fmt: skip
    append_event(results, "review", facts)


@dataclass(frozen=True, eq=False)
class SlideReviews:
    """All that readers decided about a slide.

    Attributes
    ----------
    entries
        Every line that could be read, by reader, in the order in which they were written.
    problems
        Sentences about lines that could not be read, which do not count.
    """

    entries: Mapping[str, Sequence[Review]]
    problems: Sequence[str] = ()

    def of(self, reader: str) -> list[Review]:
        """Decisions of a reader that stand: not taken back, and the latest of each place."""
        return standing(self.entries.get(reader, ()))

    @property
    def readers(self) -> list[str]:
        """Everybody who decided something, by name."""
        return sorted(self.entries)


def standing(entries: Iterable[Review]) -> list[Review]:
    """Entries of one reader that count: not withdrawn, and the latest about each place."""
    entries = list(entries)
    withdrawn = {entry.withdraws for entry in entries if entry.verdict == WITHDRAWN}
    made = [e for e in entries if e.verdict != WITHDRAWN and e.id not in withdrawn]
    return [made[i] for i in same_place([e.outline for e in made])]


def last_made(entries: Iterable[Review]) -> Review | None:
    """Give the decision that an undo takes back: the latest that was not taken back yet."""
    entries = list(entries)
    withdrawn = {entry.withdraws for entry in entries if entry.verdict == WITHDRAWN}
    made = (e for e in reversed(entries) if e.verdict != WITHDRAWN and e.id not in withdrawn)
    return next(made, None)


def read_reviews(results: Path, fingerprint: str, reader: str | None = None) -> SlideReviews:
    """Read what readers, or one of them, decided about a slide.

    A last line that is not finished, as a killed program leaves it, is passed over; so is any
    other that is damaged, and both are said.

    Raises
    ------
    OutputError
        A file is no file of reviews, or cannot be read.
    """
    entries: dict[str, list[Review]] = {}
    problems: list[str] = []
    folders = sorted((results / FOLDER).glob(f"*-{fingerprint}")) if fingerprint.isalnum() else []
    files = [file for folder in folders for file in sorted(folder.glob("*.jsonl"))]
    for file in files[:_MOST_READERS]:
        if reader is not None and file.stem != reader:
            continue
        for number, line in enumerate(written_lines(file), start=1):
            try:
                entry = Review.read(line)
                if entry.reader != file.stem or entry.identity != fingerprint:
                    raise ValueError("it is of another reader or slide")
            except (ValueError, TypeError, WsiAnomalyError, RecursionError) as error:
                what = "is not finished" if not line.endswith(b"\n") else f"is damaged ({error})"
                problems.append(f"Line {number} of {file} {what} and does not count.")
            else:
                entries.setdefault(entry.reader, []).append(entry)
    return SlideReviews(entries, problems)


def written_lines(file: Path) -> list[bytes]:
    """Read the lines of a file of reviews as they stand there; a last one may lack its end.

    Raises
    ------
    OutputError
        It is no such file, or cannot be read.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as opened:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_FILE:
                raise OutputError(f"{file} is no file of reviews; move it elsewhere.")
            lines = opened.read(_LARGEST_FILE).splitlines(keepends=True)
    except OSError as error:
        raise OutputError(
            f"{file} cannot be read ({error.strerror}); look at its permissions and its disk."
        ) from error
    return [line if len(line) <= _LONGEST_LINE else b"\n" for line in lines if line.strip()]


def findings_used(results: Path, reader: str | None = None) -> list[str]:
    """List findings that readers, or one of them, have named, the most frequent first."""
    counts: dict[str, int] = {}
    for file in (results / FOLDER).glob("*/*.jsonl"):
        if reader is not None and file.stem != reader:
            continue
        for line in written_lines(file):
            try:
                finding = json.loads(line).get("finding")
            except (ValueError, AttributeError, RecursionError):
                continue
            if isinstance(finding, str) and 0 < len(finding) <= LONGEST_FINDING:
                counts[finding] = counts.get(finding, 0) + 1
    return sorted(counts, key=lambda finding: (-counts[finding], finding))[:500]
