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
        set_places: places in `keep` of the few objects with several labels, rising;
            (S,).
        set_labels: their labels, the primary one first, padded with C; (S, L).
        num_classes: number C of classes.
        num_concurrent: rows that went into the set of another row.
        num_implied: rows that another row of the same object implies.
    """

    keep: np.ndarray
    labels: np.ndarray
    set_places: np.ndarray
    set_labels: np.ndarray
    num_classes: int
    num_concurrent: int
    num_implied: int

    @property
    def sets(self) -> dict[int, tuple[int, ...]]:
        """Labels by place, without the padding."""
        return {
            place: tuple(label for label in labels if label < self.num_classes)
            for place, labels in zip(
                self.set_places.tolist(), self.set_labels.tolist(), strict=True
            )
        }


def merge_same_objects(
    boxes: np.ndarray,
    image: np.ndarray,
    labels: np.ndarray,
    ancestor_matrix: np.ndarray,
    iou_thr: float,
    order: np.ndarray | None = None,
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
        order: `order_by_left` of the rows where it is known already.

    Returns:
        The objects.
    """
    num_classes = len(ancestor_matrix)
    depth = ancestor_matrix.sum(axis=1)
    keep = np.ones(len(labels), dtype=bool)
    primary, members = [], []
    num_implied = num_concurrent = 0
    for rows in _groups(*same_object_pairs(boxes, image, labels, iou_thr, order)):
        names = labels[rows].astype(np.int64)  # (G, L), one object a line
        above = ancestor_matrix[names[:, :, None], names[:, None, :]]
        # Implied: another label of the object has this one among its ancestors.
        specific = above.sum(axis=1) == 1
        by_depth = np.argsort(
            np.where(specific, -depth[names], 1), axis=1, kind='stable'
        )
        num_kept = specific.sum(axis=1)
        num_implied += int(rows.size - num_kept.sum())
        num_concurrent += int(num_kept.sum() - len(rows))
        keep[rows] = False
        first = np.take_along_axis(rows, by_depth[:, :1], axis=1)[:, 0]
        keep[first] = True
        several = num_kept > 1
        names = np.take_along_axis(names, by_depth, axis=1)
        names[np.arange(names.shape[1]) >= num_kept[:, None]] = num_classes
        primary.append(first[several])
        members.append(names[several])
    keep = np.flatnonzero(keep)
    primary, members = _joined(primary, members, num_classes)
    return MergedObjects(
        keep,
        labels[keep],
        np.searchsorted(keep, primary),
        members,
        num_classes,
        num_concurrent,
        num_implied,
    )


def order_by_left(boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Rows by image, then by the left side of the box rounded to single precision.

    One sort of one integer a row, nearly sorted as it stands: images do not fall.

    Args:
        boxes: (M, 4).
        image: not falling, (M,).
    """
    place = np.cumsum(np.diff(image, prepend=image[:1]) != 0, dtype=np.uint64)
    bits = np.asarray(boxes)[:, 0].astype(np.float32).view(np.uint32)
    # Rising with the number also below 0, where the bits of a float fall.
    bits ^= np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return np.argsort(place << np.uint64(32) | bits, kind='stable')


def same_object_pairs(
    boxes: np.ndarray,
    image: np.ndarray,
    labels: np.ndarray,
    iou_thr: float,
    order: np.ndarray | None = None,
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
    if order is None:
        order = order_by_left(boxes, image)
    x1, y1, x2, y2 = (np.ascontiguousarray(side) for side in boxes[order].T)
    image_of, label = np.asarray(image)[order], np.asarray(labels)[order]
    # A little wider than the bound: rounding must not lose a pair. Single precision,
    # like the order: rounding keeps what is less or equal.
    shift = (1 - iou_thr) / iou_thr + 1e-6
    left = x1.astype(np.float32)
    reach = (x1 + (x2 - x1) * shift).astype(np.float32)
    active = np.arange(len(order))
    found = []
    step = 1
    while len(active := active[active + step < len(order)]):
        other = active + step
        near = (left[other] <= reach[active]) & (image_of[active] == image_of[other])
        active = active[near]
        a, b = active, active + step
        high = y2[a] - y1[a]
        may_be = (np.abs(y1[a] - y1[b]) <= high * shift) & (label[a] != label[b])
        a, b = a[may_be], b[may_be]
        low_x, high_x = np.maximum(x1[a], x1[b]), np.minimum(x2[a], x2[b])
        low_y, high_y = np.maximum(y1[a], y1[b]), np.minimum(y2[a], y2[b])
        common = np.clip(high_x - low_x, 0, None) * np.clip(high_y - low_y, 0, None)
        union = (x2[a] - x1[a]) * (y2[a] - y1[a]) + (x2[b] - x1[b]) * (y2[b] - y1[b])
        union -= common
        iou = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
        same = iou >= iou_thr
        found.append(np.stack([order[a[same]], order[b[same]]]))
        step += 1
    pairs = np.concatenate(found, axis=1) if found else np.zeros((2, 0), dtype=np.int64)
    return pairs.min(axis=0), pairs.max(axis=0)


def _joined(
    primary: list[np.ndarray], members: list[np.ndarray], padding: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sets of all sizes in one table, by rising row of their primary label."""
    width = max((part.shape[1] for part in members), default=2)
    table = np.full((sum(map(len, members)), width), padding, dtype=np.int64)
    start = 0
    for part in members:
        table[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *primary])
    order = np.argsort(rows)
    return rows[order], table[order]


def _groups(first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """Rows of each object of several rows, rising, every two of them a pair.

    Returns:
        One table (G, L) for each number L of rows of an object.
    """
    if not len(first):
        return []
    times = np.bincount(np.concatenate([first, second]))
    lone = (times[first] == 1) & (times[second] == 1)
    tables = [np.stack([first[lone], second[lone]], axis=1)]
    neighbours = defaultdict(set)
    for a, b in zip(first[~lone].tolist(), second[~lone].tolist(), strict=True):
        neighbours[a].add(b)
        neighbours[b].add(a)
    group_of: dict[int, list[int]] = {}
    by_size = defaultdict(list)
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
    for row, group in group_of.items():
        if row == group[0] and len(group) > 1:
            by_size[len(group)].append(group)
    return tables + [np.array(groups) for groups in by_size.values()]
