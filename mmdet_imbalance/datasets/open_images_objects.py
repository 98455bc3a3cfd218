"""From the rows of Open Images to objects: repeated rows, annotations of one object.

Shapes: M rows sorted by image, N objects, C classes, S label sets.
"""

from itertools import pairwise

import numpy as np

from mmdet_imbalance.core.same_object import merge_same_objects, order_by_left
from mmdet_imbalance.datasets.open_images_csv import FLAGS

IGNORED_BIT = 1 << len(FLAGS)
#: Rows whose objects are joined at once, to whole images: bounds the memory.
ROWS_AT_ONCE = 1 << 20
#: Odd, so that a product with it loses no bit.
MIXER = np.uint64(0x9E3779B97F4A7C15)


def join_objects(image, boxes, labels, flags, options, report):
    """Leave out repeated rows and join annotations of one object, a part at a time.

    Args:
        image: of each row, not falling, (M,).
        boxes: x1, y1, x2, y2, (M, 4).
        labels: in [0, C), (M,).
        flags: bits; rows with `IGNORED_BIT` join nothing, (M,).
        options: `num_classes`, `ancestor_matrix` and `same_object_iou`.
        report: gains the numbers of rows by their fate.

    Returns:
        The same columns with one row an object, labels C + k for set k, and the sets.
    """
    starts = np.flatnonzero(np.diff(image, prepend=-1))
    cuts = starts[np.searchsorted(starts, range(0, len(image), ROWS_AT_ONCE))[1:] - 1]
    cuts = np.unique([0, *cuts.tolist(), len(image)])
    keep = np.ones(len(image), dtype=bool)
    label_parts = []
    sets = _SetNumbers(options.num_classes)
    counts = {'repeated': 0, 'concurrent': 0, 'implied': 0}
    for a, b in pairwise(cuts.tolist()):
        part = image[a:b], boxes[a:b], labels[a:b], flags[a:b]
        order = order_by_left(boxes[a:b], image[a:b])
        stays = keep[a:b]
        stays[_repeated(*part, order)] = False
        counts['repeated'] += int(b - a - np.count_nonzero(stays))
        part_labels = labels[a:b].astype(np.int32)
        if options.same_object_iou is not None:
            judged = stays & ((flags[a:b] & IGNORED_BIT) == 0)
            rows = np.flatnonzero(judged)
            place = np.cumsum(judged) - 1
            merged = merge_same_objects(
                boxes[a:b][rows],
                image[a:b][rows],
                labels[a:b][rows],
                options.ancestor_matrix,
                options.same_object_iou,
                place[order[judged[order]]],
            )
            counts['concurrent'] += merged.num_concurrent
            counts['implied'] += merged.num_implied
            stays[rows] = False
            rows = rows[merged.keep]
            stays[rows] = True
            part_labels[rows[merged.set_places]] = sets.number(merged.set_labels)
        label_parts.append(part_labels[stays])
    report.update(counts, label_sets=len(sets.found))
    labels = np.concatenate([labels[:0], *label_parts])
    return image[keep], boxes[keep], labels, flags[keep], list(sets.found)


class _SetNumbers:
    """Numbers label sets from C on, in the order in which they come."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.found: dict[tuple[int, ...], int] = {}

    def number(self, members: np.ndarray) -> np.ndarray:
        """Number of each set, (S,); its primary label first, padded with C, (S, L)."""
        members = members.copy()
        members[:, 1:].sort(axis=1)
        base, width = self.num_classes + 1, members.shape[1]
        if base**width < 1 << 63:
            packed = members @ np.array([base**k for k in range(width)])
            _, first, of = np.unique(packed, return_index=True, return_inverse=True)
        else:
            _, first, of = np.unique(
                members, axis=0, return_index=True, return_inverse=True
            )
        numbers = np.empty(len(first), dtype=np.int32)
        by_place = np.argsort(first)
        for at, labels in zip(
            by_place.tolist(), members[first[by_place]].tolist(), strict=True
        ):
            key = tuple(label for label in labels if label < self.num_classes)
            numbers[at] = self.found.setdefault(key, self.num_classes + len(self.found))
        return numbers[of.reshape(-1)]


def _repeated(image, boxes, labels, flags, order) -> np.ndarray:
    """Rows that repeat an earlier one in everything."""
    # Equal rows are neighbours in the order.
    ranked, left = image[order], boxes[order, 0].astype(np.float32)
    same = (ranked[1:] == ranked[:-1]) & (left[1:] == left[:-1])
    near = np.zeros(len(order), dtype=bool)
    near[1:] |= same
    near[:-1] |= same
    rows = np.sort(order[near])
    columns = [image[rows], labels[rows], flags[rows]]
    columns += [*np.ascontiguousarray(boxes[rows]).view(np.uint64).T]
    mixed = np.zeros(len(rows), dtype=np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * MIXER
        mixed ^= mixed >> np.uint64(29)
    by_mix = np.argsort(mixed, kind='stable')
    same = mixed[by_mix][1:] == mixed[by_mix][:-1]
    # The few rows of a hash that comes twice are compared in everything.
    shared = np.zeros(len(rows), dtype=bool)
    shared[by_mix[1:][same]] = shared[by_mix[:-1][same]] = True
    again = np.flatnonzero(shared)
    if not len(again):
        return rows[:0]
    table = np.stack([column[again].astype(np.uint64) for column in columns], axis=1)
    _, first = np.unique(table, axis=0, return_index=True)
    shared[again[first]] = False
    return rows[shared]
