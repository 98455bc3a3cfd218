"""What a data sampler will show: images and boxes of each class in an epoch.

Shapes: I images, C classes, E epochs.
"""

from collections.abc import Sequence

import numpy as np

from mmdet_imbalance.core.resampling import ImagesByClass, without_ignored
from mmdet_imbalance.datasets.label_index import class_names, label_index
from mmdet_imbalance.datasets.samplers.epoch_text import EpochTable
from mmdet_imbalance.datasets.samplers.stream_sampler import StreamSampler


def epoch_table(sampler, dataset, epochs: Sequence[int]) -> EpochTable:
    """What the sampler shows in each of `epochs`, over all ranks.

    Samplers of the package know their expectation; of others one epoch is drawn.
    """
    if isinstance(sampler, StreamSampler):
        return sampler.epoch_table(epochs)
    by_class = images_by_class(dataset)
    rows = []
    for epoch in epochs:
        counts = _drawn_counts(sampler, epoch, by_class.num_images)
        rows.append((*by_class.seen(counts), counts.sum()))
    columns = (np.array(column) for column in zip(*rows, strict=True))
    return EpochTable(tuple(epochs), *columns, is_counted=True)


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
