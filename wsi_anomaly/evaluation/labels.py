"""Labels of fields: which count as abnormal, which as normal, and which say nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ABNORMAL, NORMAL, IGNORED = 1, 0, -1
INSIDE_AT_LEAST = 0.5
"""A field is abnormal when at least this fraction of it lies inside an outline."""


def label_fields(inside: NDArray[np.floating]) -> NDArray[np.int8]:
    """Labels of fields from the fraction of each that lies inside an outline, shape (N,).

    1 abnormal (at least half inside), 0 normal (nothing inside), -1 neither: a field on the
    border is no evidence for or against a detector.
    """
    labels = np.full(inside.shape, IGNORED, np.int8)
    labels[inside >= INSIDE_AT_LEAST] = ABNORMAL
    labels[inside <= 0] = NORMAL
    return labels
