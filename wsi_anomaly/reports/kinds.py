"""``kinds.html``: one contact sheet for each kind of flagged region of a results folder."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wsi_anomaly.core.files import output_errors, write_text
from wsi_anomaly.core.small_pictures import made_anew
from wsi_anomaly.reports.beside import picture_uri
from wsi_anomaly.reports.report import environment
from wsi_anomaly.results.kinds import Kind, Kinds, decided_in, find_kinds, title_of
from wsi_anomaly.results.reviews import VERDICTS, Review
from wsi_anomaly.results.slide_files import is_blinded

PAGE = "kinds.html"
_MOST_PICTURES = 24  # of a kind
_MOST_SHEETS = 40

Decided = Mapping[tuple[str, int], Sequence[Review]]


def write_kinds(results: Path) -> Kinds:
    """Write ``kinds.html``, or remove it where nothing is flagged that has a kind.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    kinds = find_kinds(results)
    page = results / PAGE
    if not kinds.kinds:
        with output_errors(page), contextlib.suppress(FileNotFoundError):
            page.unlink()
        return kinds
    # Whoever reads a blinded study is not to know what others have decided.
    decided: Decided = {} if is_blinded(results) else decided_in(results, kinds)
    template = environment().get_template("kinds.html.j2")
    write_text(page, template.render(**sheets(kinds, decided)))
    return kinds


def sheets(kinds: Kinds, decided: Decided) -> dict[str, Any]:
    """Give what a page of kinds shows: contact sheets, and what is not on them."""
    shown = [*kinds.kinds[:_MOST_SHEETS]]
    if len(kinds.kinds) > _MOST_SHEETS and kinds.kinds[-1].single:
        shown[-1] = kinds.kinds[-1]
    return {
        "kinds": [sheet(kind, number, decided) for number, kind in enumerate(shown, start=1)],
        "count": sum(not kind.single for kind in kinds.kinds),
        "grouped": kinds.grouped,
        "slides": len({r.folder for kind in kinds.kinds for r in kind.regions}),
        "left_out": kinds.left_out,
        "problems": kinds.problems,
    }


def sheet(kind: Kind, number: int, decided: Decided) -> dict[str, Any]:
    """Give what a contact sheet shows of a kind, its most typical regions first."""
    made = [decided.get((r.folder, r.number), ()) for r in kind.regions]
    counts = Counter(review.verdict for reviews in made for review in reviews)
    return {
        "name": kind.name,
        "title": title_of(kind, number, decided),
        "single": kind.single,
        "regions": len(kind.regions),
        "slides": kind.slides,
        "area_mm2": sum(region.area_mm2 for region in kind.regions),
        "reviewed": sum(bool(reviews) for reviews in made),
        "readers": len({review.reader for reviews in made for review in reviews}),
        "verdicts": ", ".join(f"{counts[v]} {v}" for v in VERDICTS if v in counts),
        "pictures": [
            {
                "picture": picture_uri(made_anew(region.picture)),
                "slide": region.slide,
                "number": region.number,
                "link": quote(region.folder, safe=""),
            }
            for region in kind.regions[:_MOST_PICTURES]
        ],
    }
