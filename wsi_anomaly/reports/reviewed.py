"""What readers have reviewed, in worklist and report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import escape

from wsi_anomaly.core.errors import OutputError
from wsi_anomaly.core.files import write_text
from wsi_anomaly.reports.kinds import write_kinds
from wsi_anomaly.reports.worklist import write_worklist
from wsi_anomaly.results.overlaps import Area
from wsi_anomaly.results.review_matching import match_reviews, regions_of
from wsi_anomaly.results.reviews import read_reviews
from wsi_anomaly.results.stored_scores import StoredScores
from wsi_anomaly.results.summary import read_summary
from wsi_anomaly.results.trail import append_event

_BEGINS, _ENDS = "<!--reviewed-->", "<!--/reviewed-->"


def reviewed_text(results: Path, fingerprint: str, regions: Sequence[Area]) -> str:
    """Say how many of a slide's regions each reader has reviewed; empty where nobody has.

    Raises
    ------
    OutputError
        A file of reviews cannot be read.
    """
    found = read_reviews(results, fingerprint)
    counts = [len(match_reviews(found.of(name), regions).of_region) for name in found.readers]
    return "; ".join(
        f"{name} has reviewed {count} of {len(regions)}"
        for name, count in zip(found.readers, counts, strict=True)
    )


def bring_up_to_date(results: Path, names: Iterable[str]) -> None:
    """Say in the worklist, and in the reports of some slides, what has been reviewed since.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    for name in names:
        folder = results / name
        report, summary = folder / "report.html", read_summary(folder)
        if summary is None or not report.is_file() or report.is_symlink():
            continue
        outlines = [region.outline for region in regions_of(StoredScores.read(folder))]
        said = reviewed_text(results, str(summary["slide"]["fingerprint"]), outlines)
        try:
            text = report.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(
                f"{report} cannot be read ({error}); score the slide again."
            ) from error
        before, begins, rest = text.partition(_BEGINS)
        _, ends, after = rest.partition(_ENDS)
        if ends:  # reports of older versions have no place for it
            text = f"{before}{begins}{escape(said)}{ends}{after}"
            digest = hashlib.sha256(text.encode()).hexdigest()
            append_event(results, "report", {"result": name, "sha256": digest})
            write_text(report, text)
    write_kinds(results)
    write_worklist(results)
