"""The annotated box each detection overlaps most, all images and classes at once.

Only pairs of the same image (and class) are formed, so time and memory follow the
number of boxes that can meet and not images x classes.

Shapes: D detections, M annotated boxes. Boxes are (x1, y1, x2, y2) in any unit.
Deviations: none (this is no method of a paper).
"""

import numpy as np


def best_overlap(
    key: np.ndarray,
    box: np.ndarray,
    gt_key: np.ndarray,
    gt_box: np.ndarray,
    over_own_area: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Annotated box of the same key that each detection overlaps most.

    Args:
        key: image and class of each detection, ascending, shape (D,).
        box: shape (D, 4).
        gt_key: shape (M,).
        gt_box: shape (M, 4).
        over_own_area: divide the intersection by the area of the detection (IoA) and
            not by that of the union (IoU).

    Returns:
        Index of the annotated box, the first one of equal overlaps, shape (D,), and the
        overlap, shape (D,); 0 and -1 where no annotated box has the key.
    """
    best = np.zeros(len(key), dtype=np.int64)
    overlap = np.full(len(key), -1.0)
    gt_order = np.argsort(gt_key, kind='stable')
    sorted_key = gt_key[gt_order]
    begin = np.searchsorted(sorted_key, key, side='left')
    num = np.searchsorted(sorted_key, key, side='right') - begin
    rows = np.flatnonzero(num)
    if not len(rows):
        return best, overlap
    num, begin = num[rows], begin[rows]
    first = np.cumsum(num) - num
    # Every pair of a detection and an annotated box of its image and class.
    det = np.repeat(rows, num)
    gt = gt_order[np.repeat(begin - first, num) + np.arange(len(det))]
    a, b = box[det], gt_box[gt]
    side = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inter = np.maximum(side, 0).prod(axis=1)
    area_a = (a[:, 2:] - a[:, :2]).prod(axis=1)
    area_b = (b[:, 2:] - b[:, :2]).prod(axis=1)
    value = inter / (area_a if over_own_area else area_a + area_b - inter)
    largest = np.maximum.reduceat(value, first)
    at_largest = np.flatnonzero(value == np.repeat(largest, num))
    _, index = np.unique(det[at_largest], return_index=True)
    best[rows] = gt[at_largest[index]]
    overlap[rows] = largest
    return best, overlap
