"""Which detection found which object, by COCO's rule, all images and classes at once.

Lin et al., "Microsoft COCO", ECCV 2014, https://arxiv.org/abs/1405.0312: in the order
of the scores a detection takes the free box of its image and class that it overlaps
most, if the IoU reaches the threshold; else, a crowd box may swallow it.

The evaluator proper is `hotcoco`; this one keeps what figures alone do not say (who
matched whom) and what the bootstrap, the error types and calibration are made from.

Shapes: D detections, M annotated boxes. Deviations: none; one area range, all.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth

#: Pairs whose overlap is computed at once: most pairs of an image never meet.
PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Matches:
    """Fate of each detection.

    Attributes:
        gt: annotated box that it found, shape (D,); -1 for none.
        ignored: neither true nor false: in a crowd or group-of box, or beyond the
            limit of detections, shape (D,), bool.
    """

    gt: np.ndarray
    ignored: np.ndarray

    @property
    def is_true(self) -> np.ndarray:
        """True positives, shape (D,), bool."""
        return self.gt >= 0


def match_detections(
    gt: GroundTruth, detections: Detections, iou_thr: float = 0.5, max_dets: int = 100
) -> Matches:
    """Match detections at one IoU threshold.

    Args:
        gt: ground truth; crowd and group-of boxes swallow what lies in them.
        detections: at equal scores the order within an image decides.
        iou_thr: threshold in (0, 1).
        max_dets: the best so many detections of a class in an image count.
    """
    key = detections.image_index * gt.num_classes + detections.labels
    order = np.lexsort((-detections.scores, key))
    sorted_key = key[order]
    rank = np.empty(len(key), dtype=np.int64)
    rank[order] = np.arange(len(key)) - np.searchsorted(sorted_key, sorted_key)
    ignored = rank >= max_dets
    gt_key = gt.image_index * gt.num_classes + gt.labels
    swallows = gt.is_crowd | gt.is_group_of
    det, box, iou = overlapping_pairs(
        key, detections.boxes, gt_key, gt.boxes, np.flatnonzero(~swallows)
    )
    near = (iou >= min(iou_thr, 1 - 1e-10)) & ~ignored[det]
    matched = _greedy(det[near], box[near], iou[near], rank, len(gt_key))
    det, _, share = overlapping_pairs(
        key, detections.boxes, gt_key, gt.boxes, np.flatnonzero(swallows), True
    )
    in_crowd = np.zeros(len(key), dtype=bool)
    in_crowd[det[share >= min(iou_thr, 1 - 1e-10)]] = True
    return Matches(matched, ignored | (in_crowd & (matched < 0)))


def overlapping_pairs(
    key: np.ndarray,
    boxes: np.ndarray,
    gt_key: np.ndarray,
    gt_boxes: np.ndarray,
    gt_rows: np.ndarray,
    over_own_area: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a detection and an annotated box of one key that overlap at all.

    Args:
        key: what has to agree (image, or image and class), shape (D,).
        boxes: (x, y, w, h), shape (D, 4).
        gt_key: shape (M,).
        gt_boxes: shape (M, 4).
        gt_rows: annotated boxes to pair, shape (K,).
        over_own_area: divide by the detection's area and not by the union.

    Returns:
        Detection, annotated box and overlap of each pair, shapes (Q,).
    """
    gt_order = gt_rows[np.argsort(gt_key[gt_rows], kind='stable')]
    sorted_key = gt_key[gt_order]
    begin = np.searchsorted(sorted_key, key, side='left')
    num = np.searchsorted(sorted_key, key, side='right') - begin
    rows = np.flatnonzero(num)
    block = np.cumsum(num[rows]) // PAIRS_AT_ONCE
    parts = [
        _overlaps(
            some, begin[some], num[some], boxes, gt_boxes, gt_order, over_own_area
        )
        for some in np.split(rows, np.flatnonzero(np.diff(block)) + 1)
    ]
    det, gt, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return det, gt, overlap


def _overlaps(rows, begin, num, boxes, gt_boxes, gt_order, over_own_area):
    """Pairs of some detections that overlap at all, and by how much."""
    det = np.repeat(rows, num)
    first = np.cumsum(num) - num
    gt = gt_order[np.repeat(begin - first, num) + np.arange(len(det))]
    a, b = boxes[det], gt_boxes[gt]
    side = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    side = np.maximum(side - np.maximum(a[:, :2], b[:, :2]), 0)
    inter = side[:, 0] * side[:, 1]
    area = a[:, 2] * a[:, 3]
    whole = area if over_own_area else area + b[:, 2] * b[:, 3] - inter
    overlap = np.divide(inter, whole, out=np.zeros_like(inter), where=whole > 0)
    meet = overlap > 0
    return det[meet], gt[meet], overlap[meet]


def _greedy(det, box, iou, rank, num_boxes) -> np.ndarray:
    """Annotated box of each detection, shape (D,); pairs that may match are given.

    One step a rank: detections of the same rank are of different images or classes and
    cannot compete, so each step is one vectorised choice.
    """
    matched = np.full(len(rank), -1, dtype=np.int64)
    free = np.ones(num_boxes, dtype=bool)
    # Among equal overlaps COCO's loop ends at the last box.
    order = np.lexsort((box, iou, det, rank[det]))
    det, box = det[order], box[order]
    pair_rank = rank[det]
    bounds = np.flatnonzero(np.diff(pair_rank, prepend=-1, append=-1))
    for begin, end in pairwise(bounds):
        open_pairs = np.arange(begin, end)[free[box[begin:end]]]
        if not len(open_pairs):
            continue
        last = np.append(np.diff(det[open_pairs]) != 0, True)
        chosen = open_pairs[last]
        matched[det[chosen]] = box[chosen]
        free[box[chosen]] = False
    return matched
