"""What goes wrong: errors of a detector by type, and what each type costs.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV
2020, https://arxiv.org/abs/2008.08115, sections 2.1 and 2.2. A false positive is, in
this order, of type

- `Loc`: overlaps an object of its class by bg_thr <= IoU <= pos_thr;
- `Cls`: overlaps an object of another class by IoU >= pos_thr;
- `Dupe`: overlaps an object of its class that a better detection has found;
- `Bkg`: overlaps nothing by more than bg_thr;
- `Both`: anything else (wrong class and badly placed);

and `Miss` is an object that nobody found and that no `Loc` or `Cls` error stands for.
What a type costs is the AP50 gained when it alone is repaired: `Loc` and `Cls` become
true where they are the best-scored error of a free object, else vanish; `Dupe`, `Bkg`
and `Both` vanish; missed objects are not counted.

Shapes: D detections, M annotated boxes, C classes, E error types. Deviations: none; the
result is kept by class, so that it can be averaged by frequency group.
"""

from dataclasses import dataclass

import numpy as np

from mmdet_imbalance.evaluation.bootstrap import average_precision_101
from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth
from mmdet_imbalance.evaluation.matching import match_detections, overlapping_pairs

ERROR_TYPES = ('Cls', 'Loc', 'Both', 'Dupe', 'Bkg', 'Miss')
_CODE = {name: code for code, name in enumerate(ERROR_TYPES)}
NO_ERROR = -1


@dataclass(frozen=True)
class Errors:
    """Errors and their cost.

    Attributes:
        kind: index into `ERROR_TYPES` of each detection, -1 for none, shape (D,).
        gt: annotated box that a `Loc` or `Cls` error stands for, -1 for others, (D,).
        missed: missed objects, shape (M,), bool.
        count: errors by type and class (of the detection; `Miss`: of the object),
            shape (E, C).
        ap: AP50 of each class, nan without ground truth, shape (C,).
        ap_gain: AP50 gained by repairing a type, shape (E, C); nan as above.
    """

    kind: np.ndarray
    gt: np.ndarray
    missed: np.ndarray
    count: np.ndarray
    ap: np.ndarray
    ap_gain: np.ndarray

    def gain(self, classes: np.ndarray | None = None) -> dict[str, float]:
        """Mean AP50 gained by type; nan where no class has ground truth.

        Args:
            classes: mask of the classes to average over, shape (C,); None for all.
        """
        defined = ~np.isnan(self.ap)
        defined &= True if classes is None else classes
        if not defined.any():
            return dict.fromkeys(ERROR_TYPES, float('nan'))
        mean = self.ap_gain[:, defined].mean(axis=1)
        return dict(zip(ERROR_TYPES, mean.tolist(), strict=True))


def find_errors(
    gt: GroundTruth,
    detections: Detections,
    pos_thr: float = 0.5,
    bg_thr: float = 0.1,
    max_dets: int = 100,
) -> Errors:
    """Sort all false positives and missed objects into types.

    Args:
        gt: ground truth; crowd and group-of boxes are no objects.
        detections: of all classes.
        pos_thr: IoU of a true positive.
        bg_thr: IoU below which a detection is on the background.
        max_dets: the best so many detections of a class in an image count.
    """
    matches = match_detections(gt, detections, pos_thr, max_dets)
    objects = ~(gt.is_crowd | gt.is_group_of)
    false = ~matches.is_true & ~matches.ignored
    kind, stands_for = _kinds(gt, detections, false, objects, matches, pos_thr, bg_thr)
    found = np.zeros(len(gt.labels), dtype=bool)
    found[matches.gt[matches.is_true]] = True
    replaced = np.zeros(len(gt.labels), dtype=bool)
    replaced[stands_for[stands_for >= 0]] = True
    missed = objects & ~found & ~replaced
    count = np.zeros((len(ERROR_TYPES), gt.num_classes), dtype=np.int64)
    wrong = kind != NO_ERROR
    np.add.at(count, (kind[wrong], detections.labels[wrong]), 1)
    np.add.at(count[_CODE['Miss']], gt.labels[missed], 1)

    num_gt = np.bincount(gt.labels[objects], minlength=gt.num_classes)
    counted = np.flatnonzero(~matches.ignored)
    base = _ap_by_class(
        detections.labels[counted],
        detections.scores[counted],
        matches.is_true[counted],
        num_gt,
    )
    fixed = _best_errors(stands_for, detections.scores, found)
    parts = (matches.is_true, counted, kind, stands_for, fixed, gt, num_gt)
    repaired = [
        _repaired_ap(code, detections, *parts) for code in range(len(ERROR_TYPES) - 1)
    ]
    num_missed = count[_CODE['Miss']]
    repaired.append(
        _ap_by_class(
            detections.labels[counted],
            detections.scores[counted],
            matches.is_true[counted],
            num_gt - num_missed,
        )
    )
    # A class all of whose objects are missed has nothing left to be right about.
    repaired[-1] = np.where((num_gt > 0) & (num_gt == num_missed), 0.0, repaired[-1])
    return Errors(kind, stands_for, missed, count, base, np.stack(repaired) - base)


def _kinds(gt, detections, false, objects, matches, pos_thr, bg_thr):
    """Type of each detection and the object that it stands for, shapes (D,)."""
    num = len(detections)
    det, box, iou = overlapping_pairs(
        detections.image_index,
        detections.boxes,
        gt.image_index,
        gt.boxes,
        np.flatnonzero(objects),
    )
    same = detections.labels[det] == gt.labels[box]
    found = np.zeros(len(gt.labels), dtype=bool)
    found[matches.gt[matches.is_true]] = True
    own, own_box = _best(det[same], box[same], iou[same], num)
    other, other_box = _best(det[~same], box[~same], iou[~same], num)
    taken = same & found[box]
    duplicate, _ = _best(det[taken], box[taken], iou[taken], num)
    nearest = np.maximum(own, other)
    tests = (
        ('Loc', (own >= bg_thr) & (own <= pos_thr)),
        ('Cls', other >= pos_thr),
        ('Dupe', duplicate >= pos_thr),
        ('Bkg', nearest <= bg_thr),
        ('Both', np.ones(num, dtype=bool)),
    )
    kind = np.full(num, NO_ERROR)
    for name, holds in tests:
        kind[false & (kind == NO_ERROR) & holds] = _CODE[name]
    stands_for = np.where(
        kind == _CODE['Loc'], own_box, np.where(kind == _CODE['Cls'], other_box, -1)
    )
    return kind, stands_for


def _best_errors(stands_for, scores, found):
    """The best-scored error about each object that nobody found; rows, (K,).

    Of several errors about one object, whatever their types, only this one can become
    true.
    """
    about = np.flatnonzero(stands_for >= 0)
    about = about[~found[stands_for[about]]]
    about = about[np.argsort(-scores[about], kind='stable')]
    _, once = np.unique(stands_for[about], return_index=True)
    return about[once]


def _best(det, box, iou, num):
    """Largest overlap of each detection and the first box that has it."""
    largest = np.full(num, -1.0)
    np.maximum.at(largest, det, iou)
    first = np.full(num, np.iinfo(np.int64).max)
    at = iou == largest[det]
    np.minimum.at(first, det[at], box[at])
    return largest, np.where(largest >= 0, first, -1)


def _repaired_ap(
    code, detections, is_true, counted, kind, stands_for, fixed, gt, num_gt
):
    """AP50 of each class with one type of error repaired."""
    fixed = fixed[kind[fixed] == code]
    kept = counted[kind[counted] != code]
    labels = np.concatenate([detections.labels[kept], gt.labels[stands_for[fixed]]])
    scores = np.concatenate([detections.scores[kept], detections.scores[fixed]])
    true = np.concatenate([is_true[kept], np.ones(len(fixed), dtype=bool)])
    order = np.argsort(np.concatenate([kept, fixed]), kind='stable')
    return _ap_by_class(labels[order], scores[order], true[order], num_gt)


def _ap_by_class(labels, scores, is_true, num_gt):
    order = np.lexsort((-scores, labels))
    start = np.searchsorted(labels[order], np.arange(len(num_gt) + 1))
    ap = np.full(len(num_gt), np.nan)
    for c in np.flatnonzero(num_gt > 0):
        rows = order[start[c] : start[c + 1]]
        ones = np.ones((1, len(rows)), dtype=np.int64)
        ap[c] = average_precision_101(ones, is_true[rows], num_gt[c : c + 1])[0]
    return ap
