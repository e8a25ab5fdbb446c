"""The key of a blinded reading, apart from its pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_anomaly.core.files import atomic_file
from wsi_anomaly.core.tables import table_text
from wsi_anomaly.screening.blinding import KEY, write_private
from wsi_anomaly.studies.table import CohortSlide


def write_key(
    results: Path,
    slides: Sequence[CohortSlide],
    names: Mapping[Path, str],
    errors: Mapping[str, str],
) -> Path:
    """Write the key of the codes, ``unblinding.csv``, readable for its owner alone.

    Parameters
    ----------
    results
        The folder.
    slides, names
        The study, and the code of each slide.
    errors
        Why a slide could not be scored, by its code.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    rows = [(names[s.path], s.path.name, s.animal, s.group, s.organ, str(s.path)) for s in slides]
    lines = ([*row, errors.get(row[0])] for row in sorted(rows))
    text = table_text(
        ("code", "slide", "animal", "group", "organ", "path", "not_scored_because"), lines
    )
    with atomic_file(results / KEY) as partial:
        write_private(partial, text)
    return results / KEY
