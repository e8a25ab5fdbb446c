"""Reviews made in QuPath: what its script ``2_export_reviews`` has written, taken into results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import shapely

from wsi_anomaly.annotations import Outline, read_geojson
from wsi_anomaly.core.errors import UsageError, WsiAnomalyError
from wsi_anomaly.results.qupath_project import IDENTITY, PROJECT
from wsi_anomaly.results.reviews import VERDICTS, Review, append_review, check_reader, read_reviews
from wsi_anomaly.results.summary import read_summary, result_names

EXPORTED = "reviews.geojson"
_LARGEST_IDENTITY = 1 << 16  # bytes
_SAME_PX = 0.02  # QuPath snaps to 0.01


@dataclass(frozen=True)
class Taken:
    """What came out of a project.

    Attributes
    ----------
    added
        Decisions that the results did not have yet, by slide.
    known
        Those that they had.
    problems
        A sentence for each image whose reviews could not be taken.
    """

    added: dict[str, int]
    known: int
    problems: list[str]


def take_reviews(project: Path, results: Path, reader: str) -> Taken:
    """Take what a reader has called regions in QuPath into the results.

    Taking it again adds only what is new. What was taken back in QuPath is not taken back here:
    undo it in the viewer.

    Parameters
    ----------
    project
        Folder (or its ``project.qpproj``) that ``wsi-anomaly qupath`` has made.
    results
        Folder of results; a slide that was scored again since is found by its content.
    reader
        Who decided.

    Raises
    ------
    UsageError
        The folder is no such project, nothing was exported in it, or the reader has no name.
    OutputError
        The reviews cannot be written.
    """
    check_reader(reader)
    folder = project.parent if project.name == PROJECT else project
    files = sorted(folder.glob(f"data/*/{EXPORTED}"))
    if not files:
        raise UsageError(
            f"{folder} holds no reviews; run its script 2_export_reviews in QuPath "
            "(Automate > Project scripts, Run for project) first."
        )
    names: dict[str, str] = {}
    for name in result_names(results):
        summary = read_summary(results / name) or {}
        names[str(summary["slide"]["fingerprint"])] = name
    added: dict[str, int] = {}
    known, problems = 0, []
    for file in files:
        try:
            decisions = list(_decisions(file, names, reader))
        except WsiAnomalyError as error:
            problems.append(str(error))
            continue
        for review in decisions:
            if _stands(results, review):
                known += 1
            else:
                append_review(results, review)
                added[review.slide] = added.get(review.slide, 0) + 1
    return Taken(added, known, problems)


def _decisions(file: Path, names: dict[str, str], reader: str) -> Iterator[Review]:
    identity = file.parent / IDENTITY
    try:
        with identity.open("rb") as opened:
            facts = orjson.loads(opened.read(_LARGEST_IDENTITY))
        fingerprint = str(facts["fingerprint"])
        x, y = (float(value) for value in facts["corner_level0"])
        model, result = str(facts["model_hash"])[:64], str(facts["result_hash"])[:64]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{identity} is missing or damaged; run 'wsi-anomaly qupath' on the project again."
        ) from error
    if fingerprint not in names:
        raise UsageError(f"The slide of {file} is not among the results; score it again.")
    for outline in read_geojson(file):
        verdict, finding = _verdict(outline)
        yield Review(
            reader, names[fingerprint], fingerprint, verdict,
            shapely.transform(outline.polygon, lambda xy: xy + np.array([x, y])),
            finding=finding, note=outline.note, model=model, result=result,
        )  # fmt: skip


def _verdict(outline: Outline) -> tuple[str, str]:
    """Verdict and finding from a class such as ``Normal variant: lymph follicle``."""
    verdict, _, finding = (part.strip() for part in outline.label.partition(":"))
    if verdict.lower() not in VERDICTS:
        raise UsageError(f"The class {outline.label[:50]!r} is no verdict: {', '.join(VERDICTS)}.")
    return verdict.lower(), finding


def _stands(results: Path, review: Review) -> bool:
    """Whether the reader has decided this already, and nothing else about the place since."""
    made = read_reviews(results, review.identity, review.reader).of(review.reader)
    return any(
        (old.verdict, old.finding, old.note) == (review.verdict, review.finding, review.note)
        and shapely.hausdorff_distance(old.outline, review.outline) < _SAME_PX
        for old in made
    )
