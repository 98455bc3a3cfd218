"""How far figures would move with other images: bootstrap of AP over images.

Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979:
images are drawn with replacement and AP is computed anew. What a drawing changes is how
often an image counts, so the matching is done once and a drawing is a weight.

Shapes: I images, C classes, T IoU thresholds, B drawings, n detections of a class.
Deviations: classes that a drawing leaves without ground truth are in no average of it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth
from mmdet_imbalance.evaluation.coco_ap import COCO_IOU_THRS
from mmdet_imbalance.evaluation.matching import match_detections

#: 101 recall levels, as COCO writes them.
RECALL_THRS = np.linspace(0.0, 1.0, 101)
#: Cells of a table of drawings x detections worked on at once.
CELLS = 4_000_000


class WeightedAP:
    """AP of each class as a function of how often each image counts.

    Args:
        gt: ground truth.
        detections: detections of one run.
        iou_thrs: IoU thresholds, T of them.
        max_dets: the best so many detections of a class in an image count.
    """

    def __init__(
        self,
        gt: GroundTruth,
        detections: Detections,
        iou_thrs: Sequence[float] = COCO_IOU_THRS,
        max_dets: int = 100,
    ) -> None:
        self.num_images = len(gt.images)
        self.num_classes = gt.num_classes
        self.iou_thrs = np.asarray(iou_thrs)
        counted = ~(gt.is_crowd | gt.is_group_of)
        self._gt_image = [
            gt.image_index[counted & (gt.labels == c)] for c in range(gt.num_classes)
        ]
        order = np.lexsort((-detections.scores, detections.labels))
        start = np.searchsorted(detections.labels[order], np.arange(gt.num_classes + 1))
        self._rows = [order[a:b] for a, b in pairwise(start)]
        self._image = detections.image_index
        matches = [match_detections(gt, detections, t, max_dets) for t in iou_thrs]
        self._true = [m.is_true for m in matches]
        self._counts = [m.is_true | ~m.ignored for m in matches]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """AP of every class and threshold under each weighting of the images.

        Args:
            weights: how often each image counts, shape (B, I), int.

        Returns:
            Shape (B, T, C); nan where no counted image has the class.
        """
        weights = np.asarray(weights, dtype=np.int64)
        if weights.ndim != 2 or weights.shape[1] != self.num_images:
            raise ValueError(
                f'`weights` must have shape (B, {self.num_images}), got {weights.shape}'
            )
        ap = np.full((len(weights), len(self.iou_thrs), self.num_classes), np.nan)
        for c, rows in enumerate(self._rows):
            num_gt = weights[:, self._gt_image[c]].sum(axis=1)
            drawn = np.flatnonzero(num_gt)
            step = max(1, CELLS // max(1, len(rows)))
            for begin in range(0, len(drawn), step):
                some = drawn[begin : begin + step]
                weight = weights[np.ix_(some, self._image[rows])]
                total = np.cumsum(weight, axis=1)
                needed = needed_true_positives(num_gt[some])
                for t in range(len(self.iou_thrs)):
                    counts = self._counts[t][rows]
                    # Without crowds and groups, as mostly, all thresholds share a sum.
                    ap[some, t, c] = _precision_at_true(
                        weight,
                        total if counts.all() else np.cumsum(weight * counts, axis=1),
                        self._true[t][rows],
                        needed,
                    )
        return ap


def average_precision_101(
    weight: np.ndarray, is_true: np.ndarray, num_gt: np.ndarray
) -> np.ndarray:
    """COCO's 101-point AP for each row of weights, shape (B,).

    Args:
        weight: how often each detection counts, best score first, shape (B, n).
        is_true: shape (n,).
        num_gt: above 0, shape (B,).
    """
    needed = needed_true_positives(num_gt)
    return _precision_at_true(weight, np.cumsum(weight, axis=1), is_true, needed)


def _precision_at_true(
    weight: np.ndarray, total: np.ndarray, is_true: np.ndarray, needed: np.ndarray
) -> np.ndarray:
    """AP of `average_precision_101`, with what thresholds share at hand.

    Between two true positives recall stays and precision falls, so that only the
    columns of true positives matter, which are few.

    Args:
        weight: shape (B, n).
        total: sums of the weights that count, up to each detection, shape (B, n).
        is_true: shape (n,).
        needed: true positives of each recall level, shape (B, 101).
    """
    columns = np.flatnonzero(is_true)
    num = len(columns)
    if not num:
        return np.zeros(len(weight))
    true = np.cumsum(weight[:, columns], axis=1)
    total = total[:, columns]
    precision = np.divide(true, total, out=np.zeros(true.shape), where=total > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # One search for all rows: each is shifted past the end of the one before it.
    shift = (np.arange(len(weight)) * (int(true.max()) + int(needed.max()) + 2))[
        :, None
    ]
    at = np.searchsorted((true + shift).ravel(), (needed + shift).ravel())
    at = at.reshape(needed.shape) - np.arange(len(weight))[:, None] * num
    reached = at < num
    values = np.take_along_axis(envelope, np.minimum(at, num - 1), axis=1)
    return np.where(reached, values, 0.0).mean(axis=1)


def needed_true_positives(num_gt: np.ndarray) -> np.ndarray:
    """Fewest true positives t with t / num_gt >= recall level, in COCO's arithmetic.

    Args:
        num_gt: shape (B,), above 0.

    Returns:
        Shape (B, 101), int.
    """
    num_gt = np.asarray(num_gt)[:, None]
    needed = np.ceil(RECALL_THRS * num_gt - 1e-6).astype(np.int64)
    needed += needed / num_gt < RECALL_THRS
    needed -= (needed - 1) / num_gt >= RECALL_THRS
    return np.maximum(needed, 0)


def draw_images(num_images: int, num_drawings: int, seed: int) -> np.ndarray:
    """How often each image is drawn, shape (B, I), int; rows sum to I."""
    rng = np.random.default_rng(seed)
    equal = np.full(num_images, 1 / num_images)
    return rng.multinomial(num_images, equal, size=num_drawings)
