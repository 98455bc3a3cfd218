"""Detection of objects that bear several labels.

Peng et al., "Large-Scale Object Detection in the Wild from Imbalanced Multi-Labels",
CVPR 2020, https://arxiv.org/abs/2005.08455: concurrent labels of one object compete in
a softmax. AP of each label hides it, because AP looks at the order of scores within a
class: two labels that halve each other's probability everywhere keep their AP. So
beside AP per label there are the scores that the labels of one object get together.

An object is one box of an image with all labels annotated on it (rows with the very
same box are one object). The score of a label is that of the best detection of its
class that overlaps the object enough, 0 without one.

Shapes: M annotated rows, O objects, C classes. Deviations: none (measures of our own).
"""

from dataclasses import dataclass

import numpy as np

from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth
from mmdet_imbalance.evaluation.matching import overlapping_pairs


@dataclass(frozen=True)
class LabelScores:
    """Score of every label of every object, each pair once, by object.

    Attributes:
        object_index: ascending, shape (M,).
        labels: shape (M,).
        scores: in [0, 1], shape (M,).
        num_objects: number of objects O.
    """

    object_index: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    num_objects: int

    def labels_of_object(self) -> np.ndarray:
        """Number of labels of each object, shape (O,)."""
        return np.bincount(self.object_index, minlength=self.num_objects)


def label_scores(
    gt: GroundTruth, detections: Detections, iou_thr: float = 0.5
) -> LabelScores:
    """Score of every label of every object.

    Args:
        gt: ground truth, one row for an object and a label; crowd and group-of boxes
            are no objects.
        detections: detections of all classes.
        iou_thr: overlap from which on a detection speaks about an object.
    """
    rows = np.flatnonzero(~(gt.is_crowd | gt.is_group_of))
    place = np.column_stack([gt.image_index[rows], gt.boxes[rows]])
    _, object_index = np.unique(place, axis=0, return_inverse=True)
    # A label that was annotated twice on one object is one label.
    pairs = np.column_stack([object_index.reshape(-1), gt.labels[rows]])
    pairs, once = np.unique(pairs, axis=0, return_index=True)
    object_index, rows = pairs[:, 0], rows[once]
    key = detections.image_index * gt.num_classes + detections.labels
    gt_key = gt.image_index * gt.num_classes + gt.labels
    det, box, iou = overlapping_pairs(key, detections.boxes, gt_key, gt.boxes, rows)
    near = iou >= iou_thr
    scores = np.zeros(len(gt.labels))
    np.maximum.at(scores, box[near], detections.scores[det[near]])
    return LabelScores(
        object_index=object_index,
        labels=gt.labels[rows],
        scores=scores[rows],
        num_objects=int(object_index.max(initial=-1)) + 1,
    )


def concurrency_figures(
    scores: LabelScores, score_thr: float = 0.5
) -> dict[str, float]:
    """How much the labels of one object take from each other.

    Args:
        scores: of every label of every object.
        score_thr: from which score on a label counts as said with confidence.

    Returns:
        Over objects with two or more labels (-1 where there are none):
        `first_score` and `second_score`, the means of their best and second-best
        label; `second_given_first`, the mean of their ratio over objects whose best
        label has a score; `worst_score`, the mean of the lowest label;
        `all_labels_recall`, the fraction all of whose labels reach `score_thr` (a
        softmax over two labels cannot get any above 0.5). And `single_score`, the mean
        score of objects with one label, to compare `first_score` with;
        `concurrent_objects`, their number.
    """
    order = np.lexsort((-scores.scores, scores.object_index))
    value = scores.scores[order]
    count = scores.labels_of_object()
    first = np.cumsum(count) - count
    several = count >= 2
    best, second = value[first[several]], value[first[several] + 1]
    worst = value[(first + count - 1)[several]]
    seen = best > 0
    return {
        'concurrent_objects': int(several.sum()),
        'first_score': _mean(best),
        'second_score': _mean(second),
        'second_given_first': _mean(second[seen] / best[seen]),
        'worst_score': _mean(worst),
        'all_labels_recall': _mean((worst >= score_thr).astype(float)),
        'single_score': _mean(value[first[count == 1]]),
    }


def concurrent_pairs(scores: LabelScores, num_classes: int) -> np.ndarray:
    """Mean score of one label given another one on the same object.

    Args:
        scores: of every label of every object.
        num_classes: number C of classes.

    Returns:
        [a, b]: mean over the objects with labels a and b of the score of b, in units of
        the score of a where that is the larger one (at most 1), shape (C, C); nan for
        pairs that never stand together and for objects that nothing found.
    """
    total = np.zeros((num_classes, num_classes))
    number = np.zeros((num_classes, num_classes))
    # Rows come by object: every row meets all rows of its object.
    count = scores.labels_of_object()
    size = count[scores.object_index]
    own = np.repeat(np.arange(len(size)), size)
    inner = np.arange(len(own)) - np.repeat(np.cumsum(size) - size, size)
    other = (np.cumsum(count) - count)[scores.object_index[own]] + inner
    keep = (own != other) & (np.maximum(scores.scores[own], scores.scores[other]) > 0)
    own, other = own[keep], other[keep]
    ratio = scores.scores[other] / np.maximum(scores.scores[own], scores.scores[other])
    at = (scores.labels[own], scores.labels[other])
    np.add.at(total, at, ratio)
    np.add.at(number, at, 1)
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else -1.0
