"""Checks of the values that make up class statistics, with messages that name them.

Shapes: C classes, Q pairs of classes.
"""

from collections.abc import Sequence

import numpy as np


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple; texts, none twice."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f'`class_names` must be a sequence of texts, got {names!r:.80}'
        )
    names = tuple(names)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f'`class_names` must not repeat a name, got {some(twice)} twice'
        )
    return names


def counts(name: str, values, length: int | None = None) -> np.ndarray:
    """Whole numbers from 0 on as int64 (length,), or of any length."""
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or (length is not None and len(array) != length):
        expected = '(Q,)' if length is None else f'({length},)'
        raise ValueError(f'`{name}` must have shape {expected}, got {array.shape}')
    if array.dtype.kind not in 'iu':
        raise ValueError(f'`{name}` must hold integers, got {array.dtype}')
    if array.size and array.min() < 0:
        raise ValueError(f'`{name}` must not be negative, got {array.min()}')
    return array.astype(np.int64)


def ancestor_matrix(matrix, num: int) -> np.ndarray:
    """A reflexive bool matrix (num, num)."""
    matrix = np.asarray(matrix).astype(bool)
    if matrix.shape != (num, num):
        raise ValueError(
            f'`ancestor_matrix` must have shape ({num}, {num}), got {matrix.shape}'
        )
    if not matrix.diagonal().all():
        raise ValueError('`ancestor_matrix` must be reflexive (True on the diagonal)')
    return matrix


def freq_groups(groups, num: int) -> np.ndarray:
    """`num` letters of r, c, f."""
    groups = np.asarray(groups, dtype=str)
    if groups.shape != (num,) or not np.isin(groups, ['r', 'c', 'f']).all():
        raise ValueError(
            f"`freq_group` must be {num} of 'r', 'c', 'f', got {groups.tolist()!r:.80}"
        )
    return groups


def label_pairs(pairs) -> np.ndarray:
    """[child, ancestor] labels as integers (n, 2)."""
    array = np.asarray(pairs if len(pairs) else np.zeros((0, 2), dtype=np.int64))
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in 'iu':
        raise ValueError('"ancestor_pairs" must be a list of [child, ancestor] labels')
    return array


def some(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    text = ', '.join(repr(name) for name in names[:most]) or 'none'
    return text + (f' and {len(names) - most} more' if len(names) > most else '')


def check_count_pair(
    names: Sequence[str],
    images: np.ndarray,
    objects: np.ndarray,
    num_images: int,
    prefix: str = '',
) -> None:
    """Raise ValueError for counts of images and objects that exclude each other."""
    for bad, what in (
        (images > num_images, f'more images than the {num_images} there are'),
        (images > objects, 'more images than objects'),
        ((images == 0) & (objects > 0), 'objects but no image'),
    ):
        if bad.any():
            k = int(bad.argmax())
            raise ValueError(
                f'class {names[k]!r} cannot have {what} (`{prefix}img_count` '
                f'{images[k]}, `{prefix}instance_count` {objects[k]})'
            )


def canonical_pairs(
    names: Sequence[str], arrays: Sequence, objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unordered pairs of classes, each once: rows < cols, values > 0, sorted.

    Args:
        names: what the three arrays are called, for messages.
        arrays: rows, cols and values, (Q,) each, in any order, both triangles or one,
            with or without the diagonal.
        objects: objects of each class, (C,): no pair can have more.

    Returns:
        Rows, cols and values, int64.
    """
    rows, cols, values = (counts(n, a) for n, a in zip(names, arrays, strict=True))
    if not len(rows) == len(cols) == len(values):
        raise ValueError(
            f'{", ".join(names)} must have one length, got '
            f'{len(rows)}, {len(cols)}, {len(values)}'
        )
    num = max(len(objects), 1)
    if len(rows) and max(rows.max(), cols.max()) >= len(objects):
        raise ValueError(
            f'`{names[0]}` and `{names[1]}` must be labels in [0, {len(objects)}), '
            f'got {max(rows.max(), cols.max())}'
        )
    keep = (rows != cols) & (values > 0)
    low, high = np.minimum(rows, cols)[keep], np.maximum(rows, cols)[keep]
    values = values[keep]
    key, first, back = np.unique(
        low * num + high, return_index=True, return_inverse=True
    )
    if (values != values[first][back]).any():
        raise ValueError(f'`{names[2]}` gives one pair of classes two values')
    low, high, values = key // num, key % num, values[first]
    if (values > np.minimum(objects[low], objects[high])).any():
        raise ValueError(f'`{names[2]}` must not exceed the objects of either class')
    return low, high, values


def class_difference(given: Sequence[str], own: Sequence[str]) -> str:
    """What tells two lists of classes apart, in words; '' where nothing does."""
    if tuple(given) == tuple(own):
        return ''
    lacking = [name for name in given if name not in set(own)]
    extra = [name for name in own if name not in set(given)]
    if lacking or extra:
        return (
            f'{len(own)} classes counted, {len(given)} asked for; without statistics: '
            f'{some(lacking)}; counted but unknown: {some(extra)}'
        )
    at = next(k for k, (a, b) in enumerate(zip(given, own, strict=True)) if a != b)
    return f'another order, label {at} is {own[at]!r} and not {given[at]!r}'
