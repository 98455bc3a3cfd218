"""Which labels each image of a dataset bears, in three flat arrays.

Everything that counts or samples works on this index and not on annotation records:
a few bytes a label instead of half a kilobyte.

Shapes: I images, M rows (one for each annotated label of each object), C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelIndex:
    """Labels of all images, in compressed rows.

    Attributes:
        image_ptr: rows of image i are `image_ptr[i]:image_ptr[i + 1]`; int64
            (I + 1,), from 0 to M, not falling.
        labels: class of each row, int64 (M,), never negative. No label-set ids: an
            object with k explicit labels has k rows.
        ignored: True for rows that no loss takes for an object (crowds, group-of
            boxes); bool (M,). They count neither as objects nor as presence.
        objects: which object of its image a row belongs to, int64 (M,); None where
            every row is an object of its own.
    """

    image_ptr: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ('image_ptr', 'labels', 'objects'):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _as_int64(name, value))
        object.__setattr__(self, 'ignored', np.asarray(self.ignored, dtype=bool))
        num = len(self.labels)
        ptr = self.image_ptr
        if len(ptr) < 1 or ptr[0] != 0 or ptr[-1] != num or (np.diff(ptr) < 0).any():
            raise ValueError(
                f'`image_ptr` must rise from 0 to {num} (the number of labels), '
                f'got {_short(ptr)}'
            )
        for name in ('ignored', 'objects'):
            value = getattr(self, name)
            if value is not None and value.shape != (num,):
                raise ValueError(
                    f'`{name}` must have shape ({num},), got {value.shape}'
                )
        if num and self.labels.min() < 0:
            raise ValueError(f'`labels` must not be negative, got {self.labels.min()}')

    @classmethod
    def from_lists(
        cls,
        labels: Sequence[Sequence[int]],
        ignored: Sequence[Sequence[bool]] | None = None,
    ) -> 'LabelIndex':
        """Build from one collection of labels an image."""
        lengths = [len(row) for row in labels]
        flat = np.array([v for row in labels for v in row], dtype=np.int64)
        flags = np.zeros(len(flat), dtype=bool)
        if ignored is not None:
            if [len(row) for row in ignored] != lengths:
                raise ValueError('`ignored` must have the lengths of `labels`')
            flags = np.array([v for row in ignored for v in row], dtype=bool)
        ptr = np.cumsum([0, *lengths], dtype=np.int64)
        return cls(ptr, flat, flags)

    def __len__(self) -> int:
        return len(self.image_ptr) - 1

    @property
    def num_images(self) -> int:
        """Number I of images, those without labels included."""
        return len(self)

    @property
    def image_of_row(self) -> np.ndarray:
        """Image of each row, int64 (M,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.image_ptr))

    def check_labels(self, class_names: Sequence[str]) -> None:
        """Raise ValueError for the first label that is not in [0, C)."""
        num_classes = len(class_names)
        bad = np.flatnonzero(self.labels >= num_classes)
        if len(bad):
            image = int(np.searchsorted(self.image_ptr, bad[0], side='right')) - 1
            raise ValueError(
                f'image {image} bears label {self.labels[bad[0]]}, but the dataset has '
                f'{num_classes} classes (labels 0 to {num_classes - 1}); '
                f'{len(bad)} such label(s) in all. Check `metainfo=dict(classes=...)`.'
            )

    def image_classes(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct classes of each image, ignored rows left out, rising.

        Returns:
            Row pointer (I + 1,) and classes (K,), both int64, compressed like the
            index itself.
        """
        image, label = self.distinct_image_labels()
        ptr = np.searchsorted(image, np.arange(len(self) + 1))
        return ptr.astype(np.int64), label

    def distinct_image_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct (image, class) pairs of rows that are not ignored, sorted."""
        keep = ~self.ignored
        base = int(self.labels.max()) + 1 if len(self.labels) else 1
        key = np.unique(self.image_of_row[keep] * base + self.labels[keep])
        return key // base, key % base

    def select(self, images: Sequence[int] | np.ndarray) -> 'LabelIndex':
        """Index of the given images, in the given order, repetitions allowed.

        Raises:
            IndexError: an image outside [-I, I).
        """
        images = _as_int64('images', images)
        outside = (images < -len(self)) | (images >= len(self))
        if outside.any():
            raise IndexError(
                f'`images` holds {images[outside][0]}, but there are {len(self)} images'
            )
        images = np.where(images < 0, images + len(self), images)
        lengths = np.diff(self.image_ptr)[images]
        ptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Row k of the result: its place within its image plus that image's start.
        rows = np.arange(ptr[-1]) + np.repeat(
            self.image_ptr[images] - ptr[:-1], lengths
        )
        objects = None if self.objects is None else self.objects[rows]
        return LabelIndex(ptr, self.labels[rows], self.ignored[rows], objects)

    @classmethod
    def concatenate(cls, parts: Sequence['LabelIndex']) -> 'LabelIndex':
        """Index of datasets that are joined one after the other."""
        if not parts:
            return cls.from_lists([])
        starts = np.cumsum([0] + [len(part.labels) for part in parts])
        ptr = [p.image_ptr[:-1] + s for p, s in zip(parts, starts[:-1], strict=True)]
        objects = None
        if any(part.objects is not None for part in parts):
            objects = np.concatenate([part.object_of_row() for part in parts])
        return cls(
            np.concatenate([*ptr, starts[-1:]]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.ignored for part in parts]),
            objects,
        )

    def object_of_row(self) -> np.ndarray:
        """Object of each row within its image, int64 (M,), also where it is implied."""
        if self.objects is not None:
            return self.objects
        starts = np.repeat(self.image_ptr[:-1], np.diff(self.image_ptr))
        return np.arange(len(self.labels)) - starts


def _as_int64(name: str, value) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 1:
        raise ValueError(f'`{name}` must have one dimension, got shape {array.shape}')
    if array.size and array.dtype.kind not in 'iu':
        raise ValueError(f'`{name}` must hold integers, got {array.dtype}')
    return array.astype(np.int64, copy=False)


def _short(array: np.ndarray) -> str:
    return np.array2string(array, threshold=8, edgeitems=2)
