"""The page of the readers side by side, with links to where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from wsi_anomaly.reports.report import environment
from wsi_anomaly.results.reviews import VERDICTS, Review
from wsi_anomaly.viewer.folder import TEMPLATES, Results
from wsi_anomaly.viewer.reviewing import Reviewing
from wsi_anomaly.viewer.world import World


def readers_page(results: Results, reviewing: Reviewing) -> str:
    """Write the page.

    Raises
    ------
    UsageError
        The reading is blinded, and goes on.
    """
    compared = reviewing.side_by_side()
    named = {name: results.summary(name) for name in results.names()}
    name_of = {summary["slide"]["fingerprint"]: name for name, summary in named.items()}

    def link(review: Review) -> str:
        name = name_of.get(review.identity)
        return "" if name is None else _place(review, name, named[name])

    template = environment(TEMPLATES).get_template("viewer_readers.html.j2")
    return str(
        template.render(compared=compared, verdicts=VERDICTS, reader=reviewing.reader, link=link)
    )


def _place(review: Review, name: str, summary: Mapping[str, Any]) -> str:
    """Address of a place in the viewer: of its region while the result is the one reviewed."""
    if review.region is not None and review.result == summary["result_hash"]:
        at = str(review.region)
    else:
        point = review.outline.representative_point()
        um = World.of(summary).um(np.array([point.x, point.y]))
        at = f"{um[0]:.1f},{um[1]:.1f}"
    return f"view/{quote(name, safe='')}#{at}"
