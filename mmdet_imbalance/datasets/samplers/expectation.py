"""What a data sampler will show: images and boxes of each class in an epoch.

Shapes: I images, C classes, E epochs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmdet_imbalance.core.resampling import ImagesByClass, without_ignored
from mmdet_imbalance.datasets.label_index import class_names, label_index
from mmdet_imbalance.datasets.samplers.stream_sampler import StreamSampler


class EpochTable(NamedTuple):
    """Images and boxes of each class that the epochs show.

    Attributes:
        epochs: numbers of the epochs, E of them.
        images: images that bear the class, shape (E, C).
        boxes: shape (E, C).
        entries: images that an epoch shows in all, shape (E,).
        is_counted: whether one drawn epoch was counted, and no expectation computed.
    """

    epochs: tuple[int, ...]
    images: np.ndarray
    boxes: np.ndarray
    entries: np.ndarray
    is_counted: bool


def epoch_table(sampler, dataset, epochs: Sequence[int]) -> EpochTable:
    """What the sampler shows in each of `epochs`, over all ranks.

    Samplers of the package know their expectation; of others one epoch is drawn.
    """
    knows = isinstance(sampler, StreamSampler)
    by_class = sampler.by_class if knows else images_by_class(dataset)
    rows = []
    for epoch in epochs:
        if knows:
            counts = sampler.expected_image_counts(epoch)
        else:
            counts = _drawn_counts(sampler, epoch, by_class.num_images)
        rows.append((*by_class.seen(counts), counts.sum()))
    images, boxes, entries = (np.array(column) for column in zip(*rows, strict=True))
    return EpochTable(tuple(epochs), images, boxes, entries, not knows)


def images_by_class(dataset) -> ImagesByClass:
    """The index by class of any dataset, ignored boxes left out."""
    index = label_index(dataset)
    ptr, labels = without_ignored(index.image_ptr, index.labels, index.ignored)
    names = class_names(dataset)
    num_classes = len(names) if names else int(labels.max(initial=-1)) + 1
    return ImagesByClass.from_labels(ptr, labels, num_classes)


def _drawn_counts(sampler, epoch: int, num_images: int) -> np.ndarray:
    if hasattr(sampler, 'set_epoch'):
        sampler.set_epoch(epoch)
    drawn = np.fromiter(sampler, np.int64, count=len(sampler))
    return np.bincount(drawn, minlength=num_images)
