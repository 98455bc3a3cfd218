"""Several annotations of one object become one object with a set of labels.

Open Images writes an object with two labels as two rows with (nearly) equal boxes; an
assigner keeps one ground truth for a prior, so the labels have to be joined before.

Shapes: M boxes sorted by image, C classes. Boxes are x1, y1, x2, y2 in any unit that is
the same along an axis. Deviations: none known; the papers do not say how they join.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MergedObjects:
    """What is left of M boxes.

    Attributes:
        keep: rows that stay, one an object, rising; (O,). The row of the primary label
            lends its box.
        labels: primary label of each object, (O,).
        sets: for the few objects with several labels, by place in `keep`: all labels,
            the primary one first.
        num_concurrent: rows that went into the set of another row.
        num_implied: rows that another row of the same object implies.
    """

    keep: np.ndarray
    labels: np.ndarray
    sets: dict[int, tuple[int, ...]]
    num_concurrent: int
    num_implied: int


def merge_same_objects(
    boxes: np.ndarray,
    image: np.ndarray,
    labels: np.ndarray,
    ancestor_matrix: np.ndarray,
    iou_thr: float,
) -> MergedObjects:
    """Join rows of one image with different labels whose boxes overlap enough.

    Every two rows of an object overlap with at least `iou_thr`, and no label comes
    twice: two persons who embrace stay two. A row that fits several objects goes to the
    one that began first. Of an object's labels those that another one implies are left
    out; of the others the one with most ancestors is primary, the first row on a tie.

    Args:
        boxes: (M, 4).
        image: image of each row, not falling, (M,).
        labels: class of each row, in [0, C), (M,).
        ancestor_matrix: bool (C, C), [child, ancestor], reflexive.
        iou_thr: least IoU of two annotations of one object, in (0, 1].

    Returns:
        The objects.
    """
    first, second = same_object_pairs(boxes, image, labels, iou_thr)
    groups = _groups(first, second)
    depth = ancestor_matrix.sum(axis=1)
    dropped, sets_by_row = [], {}
    num_implied = num_concurrent = 0
    for rows in groups:
        names = labels[rows]
        above = ancestor_matrix[np.ix_(names, names)]
        # Implied: another label of the object has this one among its ancestors.
        specific = above.sum(axis=0) == 1
        order = np.argsort(-depth[names[specific]], kind='stable')
        kept = np.asarray(rows)[specific][order]
        num_implied += len(rows) - len(kept)
        num_concurrent += len(kept) - 1
        dropped += [row for row in rows if row != kept[0]]
        if len(kept) > 1:
            sets_by_row[int(kept[0])] = tuple(labels[kept].tolist())
    keep = np.ones(len(labels), dtype=bool)
    keep[dropped] = False
    keep = np.flatnonzero(keep)
    places = np.searchsorted(keep, list(sets_by_row))
    sets = dict(zip(places.tolist(), sets_by_row.values(), strict=True))
    return MergedObjects(keep, labels[keep], sets, num_concurrent, num_implied)


def same_object_pairs(
    boxes: np.ndarray, image: np.ndarray, labels: np.ndarray, iou_thr: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows of one image with different labels and enough overlap.

    Rows are sorted by their left side; two boxes with an IoU of at least t differ there
    by at most (1 - t) / t of either width, so each row meets only near neighbours.

    Returns:
        First and second row of each pair, first < second, (Q,) each.
    """
    if not 0 < iou_thr <= 1:
        raise ValueError(f'`iou_thr` must be in (0, 1], got {iou_thr}')
    boxes = np.asarray(boxes, dtype=np.float64)
    order = np.lexsort((boxes[:, 0], image))
    left, image_of = boxes[order, 0], image[order]
    # A little wider than the bound: rounding must not lose a pair.
    reach = left + (boxes[order, 2] - left) * ((1 - iou_thr) / iou_thr + 1e-6)
    active = np.arange(max(len(order) - 1, 0))
    found = []
    step = 1
    while len(active):
        other = active + step
        near = (image_of[active] == image_of[other]) & (left[other] <= reach[active])
        active = active[near]
        a, b = order[active], order[active + step]
        differs = labels[a] != labels[b]
        a, b = a[differs], b[differs]
        same = _iou(boxes[a], boxes[b]) >= iou_thr
        found.append(np.stack([a[same], b[same]]))
        step += 1
        active = active[active + step < len(order)]
    pairs = np.concatenate(found, axis=1) if found else np.zeros((2, 0), dtype=np.int64)
    return pairs.min(axis=0), pairs.max(axis=0)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1)
    union -= common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _groups(first: np.ndarray, second: np.ndarray) -> list[list[int]]:
    """Rows of each object of several rows, rising; every two of them are a pair."""
    rows, times = np.unique(np.concatenate([first, second]), return_counts=True)
    alone = times == 1
    lone = alone[np.searchsorted(rows, first)] & alone[np.searchsorted(rows, second)]
    groups = np.stack([first[lone], second[lone]], axis=1).tolist()
    neighbours = defaultdict(set)
    for a, b in zip(first[~lone].tolist(), second[~lone].tolist(), strict=True):
        neighbours[a].add(b)
        neighbours[b].add(a)
    group_of: dict[int, list[int]] = {}
    for row in sorted(neighbours):
        near = sorted(other for other in neighbours[row] if other < row)
        fits = (
            group_of[other]
            for other in near
            if neighbours[row].issuperset(group_of[other])
        )
        group = next(fits, [])
        group.append(row)
        group_of[row] = group
        if len(group) == 2:
            groups.append(group)
    return groups
