"""Do scores say how often a detection is right? By frequency group.

Küppers et al., "Multivariate Confidence Calibration for Object Detection", CVPRW 2020,
https://arxiv.org/abs/2004.13546, equation 4: detections are binned by score, and in
each bin the mean score is compared with the precision; the expected calibration error
is the mean of the differences, weighted by the number of detections.

Shapes: D detections, K bins. Deviations: bins of the score alone, not of the position.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """Reliability diagram.

    Attributes:
        edges: of the bins, shape (K + 1,).
        count: detections in each bin, shape (K,).
        confidence: mean score, nan for an empty bin, shape (K,).
        precision: fraction of true positives, nan for an empty bin, shape (K,).
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    precision: np.ndarray

    @property
    def expected_error(self) -> float:
        """Expected calibration error in [0, 1]; -1 without detections."""
        total = self.count.sum()
        if not total:
            return -1.0
        gap = np.nan_to_num(np.abs(self.confidence - self.precision))
        return float((gap * self.count).sum() / total)

    @property
    def overconfidence(self) -> float:
        """Mean score less precision, in [-1, 1]; nan without detections."""
        total = self.count.sum()
        if not total:
            return float('nan')
        gap = np.nan_to_num(self.confidence - self.precision)
        return float((gap * self.count).sum() / total)


def calibration(
    scores: np.ndarray, is_true: np.ndarray, num_bins: int = 10
) -> Calibration:
    """Reliability of scores.

    Args:
        scores: in [0, 1], shape (D,).
        is_true: whether the detection is a true positive, shape (D,), bool.
        num_bins: number K of bins of equal width.
    """
    if num_bins < 1:
        raise ValueError(f'`num_bins` must be at least 1, got {num_bins}')
    scores = np.asarray(scores, dtype=np.float64)
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError(
            f'`scores` must be in [0, 1], got {scores.min():g} .. {scores.max():g}'
        )
    index = np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)
    count = np.bincount(index, minlength=num_bins)

    def mean(values):
        total = np.bincount(index, weights=values, minlength=num_bins)
        empty = np.full(num_bins, np.nan)
        return np.divide(total, count, out=empty, where=count > 0)

    return Calibration(
        edges=np.linspace(0, 1, num_bins + 1),
        count=count,
        confidence=mean(scores),
        precision=mean(np.asarray(is_true, dtype=np.float64)),
    )
