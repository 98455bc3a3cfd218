"""Label sets of objects, numbered so that one int carries a set through any transform.

An id below C is the class itself; id C + k is the k-th set of the table. One table for
each number of classes serves the whole process (`LabelSetTable.shared`): ids of two
datasets may then meet in one mixed image and still mean what they meant. Ids do not
leave the process, because the pack transform decodes them there.

Shapes: G objects, C classes, S sets in the table, L labels of the largest set.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np


class LabelSetTable:
    """Sets of explicit labels, each with its primary label first.

    Args:
        num_classes: number C of foreground classes.
        sets: labels of each set, the primary (most specific) one first.
    """

    _shared: ClassVar[dict[int, 'LabelSetTable']] = {}

    def __init__(self, num_classes: int, sets: Iterable[Sequence[int]] = ()) -> None:
        self.num_classes = num_classes
        self.sets: list[tuple[int, ...]] = []
        self._ids: dict[tuple[int, ...], int] = {}
        self._padded: np.ndarray | None = None
        for labels in sets:
            self.add(labels)

    @classmethod
    def shared(cls, num_classes: int) -> 'LabelSetTable':
        """The table of this process for `num_classes` classes."""
        return cls._shared.setdefault(num_classes, cls(num_classes))

    def __len__(self) -> int:
        return len(self.sets)

    def __deepcopy__(self, memo) -> 'LabelSetTable':
        # Mixing wrappers copy every record, and with it the way to the table.
        return self

    def __reduce__(self):
        # Another process has a table of its own; only one of its own, too, is rebuilt.
        return type(self), (self.num_classes, tuple(self.sets))

    def add(self, labels: Sequence[int]) -> int:
        """Id of a set; equal sets with the same primary label have one id.

        Raises:
            ValueError: no label, a repeated one, or one outside [0, C).
        """
        first, *others = (int(label) for label in labels) if len(labels) else (-1,)
        key = (first, *sorted(others))
        if min(key) < 0 or max(key) >= self.num_classes or len(set(key)) < len(key):
            raise ValueError(
                f'a label set must be distinct labels in [0, {self.num_classes}), got '
                f'{tuple(labels)}'
            )
        if len(key) == 1:
            return first
        if key not in self._ids:
            self._ids[key] = self.num_classes + len(self.sets)
            self.sets.append(key)
            self._padded = None
        return self._ids[key]

    def primary(self, ids: np.ndarray) -> np.ndarray:
        """Primary label of each id, int64 (G,)."""
        return self._lookup(ids)[:, 0]

    def multi_hot(self, ids: np.ndarray) -> np.ndarray:
        """Explicit labels of each id, bool (G, C); no ancestors."""
        labels = self._lookup(ids)
        hot = np.zeros((len(labels), self.num_classes + 1), dtype=bool)
        hot[np.arange(len(labels))[:, None], labels] = True  # padding: last column
        return hot[:, :-1]

    def _lookup(self, ids: np.ndarray) -> np.ndarray:
        """Labels of each id, padded with C, int64 (G, L)."""
        ids = np.asarray(ids, dtype=np.int64).reshape(-1)
        bad = (ids < 0) | (ids >= self.num_classes + len(self.sets))
        if bad.any():
            raise ValueError(
                f'label {ids[bad][0]} is neither one of {self.num_classes} classes nor '
                f'one of {len(self.sets)} label sets'
            )
        if self._padded is None:
            width = max((len(labels) for labels in self.sets), default=1)
            padded = np.full((len(self.sets), width), self.num_classes, dtype=np.int64)
            for row, labels in zip(padded, self.sets, strict=True):
                row[: len(labels)] = labels
            self._padded = padded
        labels = np.full((len(ids), self._padded.shape[1]), self.num_classes)
        is_set = ids >= self.num_classes
        labels[~is_set, 0] = ids[~is_set]
        labels[is_set] = self._padded[ids[is_set] - self.num_classes]
        return labels
