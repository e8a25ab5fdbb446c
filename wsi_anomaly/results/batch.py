"""The slides of a results folder as a batch, beside the normal slides they were compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsi_anomaly.calibration.shift import BatchShift, batch_shift

__all__ = ["BatchShift", "shift_of"]


def shift_of(summaries: Sequence[Mapping[str, Any]]) -> BatchShift | None:
    """Compare a batch with its reference, by what the summaries say of each slide.

    Parameters
    ----------
    summaries
        The entries ``measured`` and ``normal`` of slides with one and the same reference.

    Returns
    -------
    None where too little is known: results of older versions, no reference, a single slide.
    """
    normal: Mapping[str, Any] = next((s["normal"] for s in summaries if s["normal"]), {})
    known = [s["measured"] for s in summaries if s["measured"]]
    if not normal or not known:
        return None
    names = [name for name in normal if all(name in one for one in known)]
    new = {name: [float(one[name]) for one in known] for name in names}
    try:
        return batch_shift(normal, new)
    except (TypeError, ValueError):
        return None  # somebody else's file
