"""Average precision of the Open Images protocols, all images and classes at once.

Kuznetsova et al., "The Open Images Dataset V4", IJCV 2020,
https://arxiv.org/abs/1811.00982, section 5, and the rules of the Open Images V2 metric
and the Open Images Challenge as their official evaluator applies them:

1. A detection looks at the one box of its class that it overlaps most; it is true if
   the IoU reaches the threshold and no better-scored detection took that box before.
2. A detection that is not true and lies by at least the threshold (intersection over
   its own area) in a group-of box belongs to the best such group. A group with any is
   one entry of weight `group_of_weight` at its best score; with weight 0 it is none.
3. Detections without area are removed. With `judge='verified'` (Challenge) so are those
   of classes nobody verified in the image; with `judge='all'` (V2) all count.
4. Boxes, also those detected if asked for, count for all ancestors of their class; a
   verified presence holds for all ancestors, a verified absence for all descendants.

Shapes: D detections, M annotated boxes, V verified labels, C classes. Boxes are
(x1, y1, x2, y2) in any unit. Deviations: none; equal scores fall in the order in which
numpy's argsort leaves them, which is the official evaluator's.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmdet_imbalance.evaluation.boxes import expand_rows
from mmdet_imbalance.evaluation.overlap import best_overlap

JUDGE = ('verified', 'all')
#: The official evaluator keeps so many detections of a class in an image.
MAX_DETECTIONS = 10000
_FALSE, _TRUE, _GROUP = range(3)


@dataclass
class ImageBatch:
    """Some whole images; a row says by number which one it belongs to.

    Attributes:
        gt_image, gt_label, gt_is_group_of: shape (M,).
        gt_box: shape (M, 4).
        verified_image, verified_label: shape (V,).
        verified_present: True for present, False for absent, shape (V,), bool.
        det_image, det_label, det_score: shape (D,).
        det_box: shape (D, 4).
    """

    gt_image: np.ndarray
    gt_label: np.ndarray
    gt_box: np.ndarray
    gt_is_group_of: np.ndarray
    verified_image: np.ndarray
    verified_label: np.ndarray
    verified_present: np.ndarray
    det_image: np.ndarray
    det_label: np.ndarray
    det_box: np.ndarray
    det_score: np.ndarray


@dataclass(frozen=True)
class OpenImagesAP:
    """Result.

    Attributes:
        ap: AP of each class, shape (C,); nan for a class without ground truth, 0 for
            one with ground truth and no detection.
        num_gt: weight of the ground truth of each class, shape (C,).
    """

    ap: np.ndarray
    num_gt: np.ndarray

    def mean(self, classes: np.ndarray | None = None) -> float:
        """Mean over the classes with ground truth; -1 where there are none.

        Args:
            classes: mask of the classes to average over, shape (C,); None for all.
        """
        ap = self.ap if classes is None else self.ap[classes]
        ap = ap[~np.isnan(ap)]
        return float(ap.mean()) if ap.size else -1.0


class _Entries(NamedTuple):
    """Judged rows of a batch, by class: 7 bytes each with float32 scores.

    Attributes:
        start: first row of each class and the end, shape (C + 1,).
        score: shape (n,).
        fate: `_FALSE`, `_TRUE` or `_GROUP`, shape (n,), uint8.
    """

    start: np.ndarray
    score: np.ndarray
    fate: np.ndarray


class OpenImagesEvaluator:
    """Takes images batch by batch and keeps a class, a score and a weight a row.

    The order of the images matters only among detections of equal scores.

    Args:
        num_classes: number C of classes.
        judge: 'verified' (Challenge) or 'all' (V2).
        group_of_weight: weight of a group that was found (Challenge 1, V2 0).
        iou_thr: threshold of the IoU, and of the overlap with groups.
        ancestor_matrix: [child, ancestor], shape (C, C), bool, reflexive; None for
            classes without a hierarchy.
        expand_ground_truth: expand annotated boxes and verified labels; False where
            they were expanded beforehand.
        expand_detections: expand detected boxes.
    """

    def __init__(
        self,
        num_classes: int,
        judge: str = 'verified',
        group_of_weight: float = 1.0,
        iou_thr: float = 0.5,
        ancestor_matrix: np.ndarray | None = None,
        expand_ground_truth: bool = True,
        expand_detections: bool = False,
    ) -> None:
        if judge not in JUDGE:
            raise ValueError(f'`judge` must be one of {JUDGE}, got {judge!r}')
        if group_of_weight < 0:
            raise ValueError(
                f'`group_of_weight` must not be negative, got {group_of_weight}'
            )
        if not 0 < iou_thr < 1:
            raise ValueError(f'`iou_thr` must be in (0, 1), got {iou_thr}')
        self.num_classes = num_classes
        self.judge = judge
        self.group_of_weight = float(group_of_weight)
        self.iou_thr = iou_thr
        identity = np.eye(num_classes, dtype=bool)
        matrix = identity if ancestor_matrix is None else np.asarray(ancestor_matrix)
        self._gt_matrix = matrix if expand_ground_truth else identity
        self._det_matrix = matrix if expand_detections else identity
        self._num_gt = np.zeros(num_classes)
        self._entries: list[_Entries] = []

    def add(self, batch: ImageBatch) -> None:
        """Judge the detections of some images."""
        source, gt_label, _ = expand_rows(batch.gt_label, self._gt_matrix)
        is_group = np.asarray(batch.gt_is_group_of, dtype=bool)[source]
        gt_key = self._key(batch.gt_image[source], gt_label)
        gt_box = batch.gt_box[source].astype(np.float64)
        self._num_gt += np.bincount(
            gt_label,
            weights=np.where(is_group, self.group_of_weight, 1.0),
            minlength=self.num_classes,
        )
        key, box, score = self._judged_detections(batch, gt_key)
        order = _by_key_and_score(key, score, gt_key)
        key, box, score = key[order], box[order], score[order]
        true = self._match_boxes(key, box, gt_key[~is_group], gt_box[~is_group])
        group, in_group = self._match_groups(
            key, box, true, gt_key[is_group], gt_box[is_group]
        )
        self._append(key, score, true, group, in_group, gt_key[is_group])

    def merge(self, other: 'OpenImagesEvaluator') -> None:
        """Add the images of another evaluator with the same settings."""
        if other.num_classes != self.num_classes:
            raise ValueError(
                f'cannot merge evaluators of {self.num_classes} and '
                f'{other.num_classes} classes'
            )
        self._num_gt += other._num_gt
        self._entries.extend(other._entries)

    def result(self) -> OpenImagesAP:
        """AP of everything added so far."""
        weight_of = np.array([0.0, 1.0, self.group_of_weight])
        ap = np.full(self.num_classes, np.nan)
        # One sort a class, as the official evaluator does, for the order of ties.
        for c in np.flatnonzero(self._num_gt > 0):
            rows = [slice(e.start[c], e.start[c + 1]) for e in self._entries]
            parts = list(zip(self._entries, rows, strict=True))
            score = np.concatenate([e.score[r] for e, r in parts])
            fate = np.concatenate([e.fate[r] for e, r in parts])
            ap[c] = average_precision(
                score.astype(np.float64), weight_of[fate], self._num_gt[c]
            )
        return OpenImagesAP(ap, self._num_gt.copy())

    def _key(self, image: np.ndarray, label: np.ndarray) -> np.ndarray:
        """One number for an image and a class; ascending with the image."""
        return np.asarray(image, dtype=np.int64) * self.num_classes + label

    def _judged_detections(self, batch, gt_key):
        box = batch.det_box.astype(np.float64)
        rows = np.flatnonzero((box[:, 0] < box[:, 2]) & (box[:, 1] < box[:, 3]))
        source, label, _ = expand_rows(batch.det_label[rows], self._det_matrix)
        rows = rows[source]
        key = self._key(batch.det_image[rows], label)
        if self.judge == 'verified':
            present = np.asarray(batch.verified_present, dtype=bool)
            judged = [gt_key]
            # An absent class has no descendant there: the tree read downwards.
            for which, matrix in (
                (present, self._gt_matrix),
                (~present, self._gt_matrix.T),
            ):
                source, implied, _ = expand_rows(batch.verified_label[which], matrix)
                judged.append(self._key(batch.verified_image[which][source], implied))
            keep = np.isin(key, np.unique(np.concatenate(judged)))
            rows, key = rows[keep], key[keep]
        return key, box[rows], batch.det_score[rows]

    def _match_boxes(self, key, box, gt_key, gt_box):
        """True positives among the sorted detections, shape (D,), bool."""
        best, overlap = best_overlap(key, box, gt_key, gt_box, over_own_area=False)
        claims = np.flatnonzero(overlap >= self.iou_thr)
        # The rows are in order of the score within an image and class, so the first
        # claim of a box is the best one.
        _, first = np.unique(best[claims], return_index=True)
        true = np.zeros(len(key), dtype=bool)
        true[claims[first]] = True
        return true

    def _match_groups(self, key, box, true, gt_key, gt_box):
        """Group of each detection and whether it is in one, shapes (D,)."""
        group, overlap = best_overlap(key, box, gt_key, gt_box, over_own_area=True)
        return group, (overlap >= self.iou_thr) & ~true

    def _append(self, key, score, true, group, in_group, group_key):
        best = np.zeros(len(group_key), dtype=score.dtype)
        np.maximum.at(best, group[in_group], score[in_group])
        found = (best > 0) & (self.group_of_weight > 0)
        # The entries of the groups follow the detections of their image and class.
        kept = ~in_group
        label = np.concatenate([key[kept], group_key[found]]) % self.num_classes
        place = np.concatenate([2 * key[kept], 2 * group_key[found] + 1])
        order = np.argsort(place, kind='stable')
        order = order[np.argsort(label[order].astype(np.int32), kind='stable')]
        fate = np.concatenate([true[kept], np.full(int(found.sum()), _GROUP)])
        count = np.bincount(label, minlength=self.num_classes)
        self._entries.append(
            _Entries(
                start=np.concatenate([[0], np.cumsum(count)]),
                score=np.concatenate([score[kept], best[found]])[order],
                fate=fate[order].astype(np.uint8),
            )
        )


def average_precision(score: np.ndarray, weight: np.ndarray, num_gt: float) -> float:
    """Area under the precision-recall curve, precision made monotone.

    Args:
        score: shape (D,).
        weight: weight as a true positive; 0 is a false positive, shape (D,).
        num_gt: weight of all ground truth, above 0.
    """
    if not len(score):
        return 0.0
    weight = weight[np.argsort(score)[::-1]]
    true = np.cumsum(weight)
    precision = true / (true + np.cumsum(weight <= 0))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    recall = true / num_gt
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _by_key_and_score(
    key: np.ndarray, score: np.ndarray, gt_key: np.ndarray
) -> np.ndarray:
    """Order of the rows by image and class, then by falling score.

    Equal scores that compete for ground truth are ordered as the official evaluator
    orders them: by one unstable argsort of the group, reversed.
    """
    order = np.lexsort((-score, key))
    sorted_key, sorted_score = key[order], score[order]
    first = np.flatnonzero(np.diff(sorted_key, prepend=-1))
    size = np.diff(np.append(first, len(key)))
    if (size > MAX_DETECTIONS).any():
        raise ValueError(
            f'an image has {int(size.max())} detections of one class, the protocol '
            f'allows {MAX_DETECTIONS}'
        )
    tied = (np.diff(sorted_key) == 0) & (np.diff(sorted_score) == 0)
    tied_keys = np.intersect1d(sorted_key[1:][tied], gt_key)
    at = np.searchsorted(sorted_key[first], tied_keys)
    for begin, num in zip(first[at], size[at], strict=True):
        rows = np.sort(order[begin : begin + num])
        order[begin : begin + num] = rows[np.argsort(score[rows])[::-1]]
    return order
