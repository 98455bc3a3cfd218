"""Class statistics of a label index.

Shapes: I images, M rows of the index, C classes, S distinct sets of labels.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_index import LabelIndex


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
    sets, set_count = object_label_sets(index, num_classes)
    image, label = index.distinct_image_labels()
    stats['img_count'] = np.bincount(label, minlength=num_classes)
    pairs = _count_pairs(sets, set_count)
    stats.update(_pair_fields(pairs, ''))
    if ancestor_matrix is not None:
        ancestor_matrix = np.asarray(ancestor_matrix, dtype=bool)
        if (ancestor_matrix.sum(axis=1) > 1).any():
            # A label of several ways to one ancestor still implies it once.
            expanded = _expand(sets, ancestor_matrix)
            stats.update(_pair_fields(_count_pairs(expanded, set_count), 'expanded_'))
            stats['expanded_img_count'] = _expanded_img_count(
                image, label, ancestor_matrix
            )
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
    keep = ~index.ignored
    labels = index.labels[keep]
    if index.objects is None:
        single = np.bincount(labels, minlength=num_classes)
        many, many_count = np.zeros((0, num_classes), dtype=bool), single[:0]
    else:
        single, many, many_count = _group_objects(
            index.image_of_row[keep], index.objects[keep], labels, num_classes
        )
    present = np.flatnonzero(single)
    one_hot = np.zeros((len(present), num_classes), dtype=bool)
    one_hot[np.arange(len(present)), present] = True
    return np.concatenate([one_hot, many]), np.concatenate(
        [single[present], many_count]
    )


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


def _group_objects(image, objects, labels, num_classes):
    """Objects of one label by class (C,); sets (S, C) and counts of the others."""
    step, within = np.diff(image), np.diff(objects)
    if (step < 0).any() or ((step == 0) & (within < 0)).any():
        order = np.lexsort((objects, image))
        image, objects, labels = image[order], objects[order], labels[order]
    first = np.ones(len(labels), dtype=bool)
    first[1:] = (image[1:] != image[:-1]) | (objects[1:] != objects[:-1])
    ids = np.cumsum(first) - 1
    alone = np.bincount(ids)[ids] == 1
    single = np.bincount(labels[alone], minlength=num_classes)
    # The few other objects: each label once, in rising order.
    pairs = np.unique(ids[~alone] * num_classes + labels[~alone])
    ids, labels = pairs // max(num_classes, 1), pairs % max(num_classes, 1)
    _, line, size = np.unique(ids, return_inverse=True, return_counts=True)
    table = np.full((len(size), size.max(initial=0)), num_classes, dtype=np.int64)
    table[line, np.arange(len(labels)) - (np.cumsum(size) - size)[line]] = labels
    table, count = np.unique(table, axis=0, return_counts=True)
    sets = np.zeros((len(table), num_classes + 1), dtype=bool)
    sets[np.arange(len(table))[:, None], table] = True  # padding: last column
    return single, sets[:, :-1], count


def _count_pairs(sets: np.ndarray, set_count: np.ndarray) -> np.ndarray:
    """int64 (C, C): objects that bear both; exact, since float64 is up to 2**53."""
    dense = sets.astype(np.float64)
    return np.rint(dense.T @ (dense * set_count[:, None])).astype(np.int64)


def _expand(sets: np.ndarray, ancestor_matrix: np.ndarray) -> np.ndarray:
    return sets.astype(np.float32) @ ancestor_matrix.astype(np.float32) > 0


def _pair_fields(pairs: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    rows, cols = np.nonzero(np.triu(pairs, 1))
    return {
        f'{prefix}instance_count': pairs.diagonal().copy(),
        f'{prefix}pair_rows': rows,
        f'{prefix}pair_cols': cols,
        f'{prefix}pair_values': pairs[rows, cols],
    }


def _expanded_img_count(image, label, ancestor_matrix) -> np.ndarray:
    num_classes = len(ancestor_matrix)
    per_label = ancestor_matrix.sum(axis=1)
    ptr = np.cumsum(per_label) - per_label
    ancestors = np.nonzero(ancestor_matrix)[1]
    num = per_label[label]
    within = np.arange(num.sum()) - np.repeat(np.cumsum(num) - num, num)
    implied = ancestors[np.repeat(ptr[label], num) + within]
    key = np.unique(np.repeat(image, num) * num_classes + implied)
    return np.bincount(key % num_classes, minlength=num_classes)
