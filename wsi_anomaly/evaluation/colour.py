"""The control beside every figure: what mean colour alone gives away.

Where a lesion has another colour, a mean finds it too; a detector is worth what it adds to that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class ColourControl:
    """Anomaly score of a tile's mean colour: Mahalanobis distance from that of normal tiles."""

    def fit(self, means: NDArray[np.floating]) -> ColourControl:
        """Learn from the mean colours of normal tiles, shape (N, 3), any unit."""
        self.centre_ = means.mean(axis=0)
        covariance = np.cov(means, rowvar=False) + 1e-6 * np.eye(means.shape[1])
        self.precision_ = np.linalg.inv(covariance)
        return self

    def score_samples(self, means: NDArray[np.floating]) -> NDArray[np.float64]:
        """Squared distances, shape (N,); higher = more unusual."""
        difference = means - self.centre_
        distance: NDArray[np.float64] = ((difference @ self.precision_) * difference).sum(axis=1)
        return distance


def mean_colours(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean colour of tiles: (N, H, W, 3) -> (N, 3)."""
    means: NDArray[np.float64] = images.mean(axis=(1, 2), dtype=np.float64)
    return means
