"""Class statistics of a label index.

Shapes: I images, M rows of the index, C classes, S distinct sets of labels, L labels of
the largest set.
"""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_index import LabelIndex

#: Cells, rows or pairs that are looked at together: bounds the memory.
BLOCK_CELLS = 1 << 22


def count_classes(
    index: LabelIndex,
    class_names: Sequence[str],
    ancestor_matrix: np.ndarray | None = None,
    freq_group: Sequence[str] | None = None,
    fingerprint: str | None = None,
) -> ClassStats:
    """Count images, objects and pairs of labels.

    Rows that are ignored count nowhere. An object that bears a label twice counts once.

    Args:
        index: labels of all images.
        class_names: the C classes.
        ancestor_matrix: bool (C, C), [child, ancestor], reflexive, transitive; with it
            the expanded counts are made too.
        freq_group: groups that the annotation gives; None takes them from the counts.
        fingerprint: of what was counted; None hashes the arguments.

    Returns:
        The statistics.

    Raises:
        ValueError: a label outside [0, C), with the image that bears it.
    """
    index.check_labels(class_names)
    num_classes = len(class_names)
    stats = {}
    table, set_count = _set_table(index, num_classes)
    implied = None
    if ancestor_matrix is not None:
        ancestor_matrix = np.asarray(ancestor_matrix, dtype=bool)
        if (ancestor_matrix.sum(axis=1) > 1).any():
            implied = ancestor_matrix
    own = np.eye(num_classes, dtype=bool)
    stats.update(_pair_fields(_count_pairs(table, set_count, own), ''))
    stats['img_count'], expanded = _count_images(index, num_classes, implied)
    if implied is not None:
        # A label of several ways to one ancestor still implies it once.
        pairs = _count_pairs(table, set_count, implied)
        stats.update(_pair_fields(pairs, 'expanded_'))
        stats['expanded_img_count'] = expanded
    if fingerprint is None:
        fingerprint = index_fingerprint(index, class_names, ancestor_matrix, freq_group)
    return ClassStats(
        class_names=class_names,
        num_images=len(index),
        ancestor_matrix=ancestor_matrix,
        freq_group=freq_group,
        fingerprint=fingerprint,
        **stats,
    )


def object_label_sets(
    index: LabelIndex, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct sets of explicit labels of one object, and how many objects bear each.

    Returns:
        bool (S, C) and int64 (S,).
    """
    table, set_count = _set_table(index, num_classes)
    return _implied(table, np.eye(num_classes, dtype=bool)), set_count


def index_fingerprint(
    index: LabelIndex,
    class_names: Sequence[str],
    ancestor_matrix: np.ndarray | None = None,
    freq_group: Sequence[str] | None = None,
) -> str:
    """Hash of everything that the counts depend on; no path, no time."""
    digest = hashlib.blake2b(digest_size=16)
    for name in class_names:
        digest.update(name.encode() + b'\0')
    arrays = [index.image_ptr, index.labels, index.ignored]
    arrays += [index.objects, ancestor_matrix]
    arrays.append(None if freq_group is None else np.asarray(freq_group, dtype='U1'))
    for array in arrays:
        digest.update(b'-' if array is None else str(array.shape).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _set_table(index: LabelIndex, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of each distinct set, padded with C, (S, L), and its objects, (S,)."""
    rows = slice(None) if not index.ignored.any() else np.flatnonzero(~index.ignored)
    labels = index.labels[rows]
    if index.objects is None:
        single = np.bincount(labels, minlength=num_classes)
        many, many_count = np.zeros((0, 1), dtype=np.int64), single[:0]
    else:
        single, many, many_count = _group_objects(
            index.image_of_row[rows], index.objects[rows], labels, num_classes
        )
    present = np.flatnonzero(single)
    width = max(many.shape[1], 1)
    table = np.full((len(present) + len(many), width), num_classes, dtype=np.int64)
    table[: len(present), 0] = present
    table[len(present) :, : many.shape[1]] = many
    return table, np.concatenate([single[present], many_count])


def _group_objects(image, objects, labels, num_classes):
    """Objects of one label by class (C,); sets (S, L) and counts of the others."""
    step, within = np.diff(image), np.diff(objects)
    if (step < 0).any() or ((step == 0) & (within < 0)).any():
        order = np.lexsort((objects, image))
        image, objects, labels = image[order], objects[order], labels[order]
        step, within = np.diff(image), np.diff(objects)
    edge = np.ones(len(labels) + 1, dtype=bool)  # between the rows of two objects
    edge[1:-1] = (step != 0) | (within != 0)
    alone = edge[1:] & edge[:-1]
    single = np.bincount(labels[alone], minlength=num_classes)
    # The few other objects: each label once, in rising order.
    rows = np.flatnonzero(~alone)
    ids = np.cumsum(edge[rows])
    pairs = np.unique(ids * num_classes + labels[rows])
    ids, labels = pairs // max(num_classes, 1), pairs % max(num_classes, 1)
    _, line, size = np.unique(ids, return_inverse=True, return_counts=True)
    table = np.full((len(size), size.max(initial=0)), num_classes, dtype=np.int64)
    table[line, np.arange(len(labels)) - (np.cumsum(size) - size)[line]] = labels
    return single, *_distinct_lines(table, num_classes + 1)


def _distinct_lines(table: np.ndarray, base: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct lines of numbers below `base`, sorted, and how often each comes."""
    width = table.shape[1]
    if base**width >= 1 << 63:
        return np.unique(table, axis=0, return_counts=True)
    power = np.array([base**k for k in reversed(range(width))], dtype=np.int64)
    packed, count = np.unique(table @ power, return_counts=True)
    return packed[:, None] // power % base, count


def _implied(table: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """All that any label of each set implies, bool (S, C), of a table (S, L)."""
    hot = np.zeros((len(table), len(matrix)), dtype=bool)
    for column in table.T:
        rows = np.flatnonzero(column < len(matrix))
        hot[rows] |= matrix[column[rows]]
    return hot


def _count_pairs(
    table: np.ndarray, set_count: np.ndarray, matrix: np.ndarray
) -> np.ndarray:
    """int64 (C, C): objects for which both are implied, of sets (S, L)."""
    num_classes = len(matrix)
    block = max(BLOCK_CELLS // max(num_classes, 1), 1)
    found = [np.zeros((2, 0), dtype=np.int64)]
    for start in range(0, len(table), block):
        line, label = np.nonzero(_implied(table[start : start + block], matrix))
        found.append(np.stack([line + start, label]))
    lines, labels = np.concatenate(found, axis=1)
    size = np.bincount(lines, minlength=len(table))
    ends = np.concatenate([[0], np.cumsum(size)])
    total = np.zeros(num_classes**2)
    for a, b in pairwise(_cuts(np.cumsum(size**2))):
        line, label = lines[ends[a] : ends[b]], labels[ends[a] : ends[b]]
        num = size[line]
        # Each label with each of its set, itself included.
        first = np.repeat(ends[line] - ends[a], num)
        other = np.arange(len(first)) - np.repeat(np.cumsum(num) - num, num) + first
        # Exact: a float64 counts up to 2**53.
        total += np.bincount(
            np.repeat(label * num_classes, num) + label[other],
            np.repeat(set_count[line], num),
            minlength=num_classes**2,
        )
    return np.rint(total).astype(np.int64).reshape(num_classes, num_classes)


def _pair_fields(pairs: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    rows, cols = np.nonzero(np.triu(pairs, 1))
    return {
        f'{prefix}instance_count': pairs.diagonal().copy(),
        f'{prefix}pair_rows': rows,
        f'{prefix}pair_cols': cols,
        f'{prefix}pair_values': pairs[rows, cols],
    }


def _count_images(
    index: LabelIndex, num_classes: int, ancestor_matrix: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Images with each class, int64 (C,), and with it or one of its descendants."""
    above = np.zeros((num_classes, 0), dtype=np.int64)
    if ancestor_matrix is not None:
        above = _padded_ancestors(ancestor_matrix)
    explicit, expanded = np.zeros((2, num_classes), dtype=np.int64)
    ptr = index.image_ptr
    # Some images at a time: short sorts of small numbers.
    for a, b in pairwise(_cuts(ptr[1:])):
        rows = slice(ptr[a], ptr[b])
        seen = ~index.ignored[rows]
        image = np.repeat(np.arange(b - a), np.diff(ptr[a : b + 1]))[seen]
        image, label = _distinct(image, index.labels[rows][seen], num_classes)
        explicit += np.bincount(label, minlength=num_classes)
        images, labels = [image], [label]
        for column in above.T:
            has = column[label] < num_classes
            image, label = image[has], label[has]
            images.append(image)
            labels.append(column[label])
        if len(labels) > 1:
            image, label = np.concatenate(images), np.concatenate(labels)
            label = _distinct(image, label, num_classes)[1]
            expanded += np.bincount(label, minlength=num_classes)
    return explicit, expanded


def _distinct(
    image: np.ndarray, label: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs, sorted."""
    key = image * num_classes + label
    if len(key) and key.max() < 1 << 32:
        key = key.astype(np.uint32)  # sorted in half the time
    key.sort()
    is_new = np.ones(len(key), dtype=bool)
    is_new[1:] = key[1:] != key[:-1]
    key = key[is_new]
    return np.divmod(key.astype(np.int64), max(num_classes, 1))


def _cuts(ends: np.ndarray) -> list[int]:
    """Bounds of parts of about `BLOCK_CELLS` each, of things that end at `ends`."""
    if not len(ends):
        return [0]
    inner = np.searchsorted(ends, np.arange(BLOCK_CELLS, ends[-1], BLOCK_CELLS)) + 1
    return np.unique([0, *inner.tolist(), len(ends)]).tolist()


def _padded_ancestors(ancestor_matrix: np.ndarray) -> np.ndarray:
    """Proper ancestors of each class, padded with C, (C, L)."""
    proper = ancestor_matrix & ~np.eye(len(ancestor_matrix), dtype=bool)
    child, ancestor = np.nonzero(proper)
    size = proper.sum(axis=1)
    table = np.full((len(proper), size.max(initial=0)), len(proper), dtype=np.int64)
    table[child, np.arange(len(child)) - (np.cumsum(size) - size)[child]] = ancestor
    return table
