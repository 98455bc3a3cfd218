"""A dataset that has labels and no images, for samplers."""

import numpy as np

from mmdet_imbalance.core.label_index import LabelIndex


class LabelledImages:
    """Image i bears `labels[i]`; loading it gives its index."""

    def __init__(self, labels, num_classes, ignored=None):
        self.labels, self.ignored = labels, ignored
        self.metainfo = {'classes': tuple(f'class {c}' for c in range(num_classes))}

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return index

    def label_index(self):
        return LabelIndex.from_lists(self.labels, self.ignored)


def long_tail(num_images=60, num_classes=6, seed=0):
    """Zipf classes; the last class has no image, some images have no label."""
    generator = np.random.default_rng(seed)
    probs = 1 / np.arange(1, num_classes) ** 1.3
    labels = [
        generator.choice(
            num_classes - 1, size=generator.integers(0, 4), p=probs / probs.sum()
        ).tolist()
        for _ in range(num_images)
    ]
    return LabelledImages(labels, num_classes)
