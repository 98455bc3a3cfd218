"""What the objects of a glyph image are annotated with: labels, label sets, mistakes.

Shapes: C chosen classes. Deviations: none (data of our own).
"""

from collections.abc import Sequence

import numpy as np

from mmdet_imbalance.datasets.glyph_renderer import stream
from mmdet_imbalance.datasets.glyph_vocabulary import (
    CLASSES,
    NUM_LEAVES,
    concurrent_leaves,
)


class GlyphAnnotator:
    """Annotates drawn leaves with labels in [0, C).

    Args:
        classes: names of the chosen classes; labels of others are dropped.
        annotate: 'all' or 'one', see `GlyphDataset`.
        complete_fraction: with 'one', fraction of objects annotated with all.
        label_noise: fraction of objects annotated with a single wrong leaf.
        label_format: 'rows' or 'sets', see `GlyphDataset`.

    Attributes:
        chosen: place of each of the classes in the vocabulary.
        label_sets: concurrent labels, the drawn leaf first; the k-th has the id C + k.
    """

    def __init__(
        self,
        classes: Sequence[str],
        annotate: str,
        complete_fraction: float,
        label_noise: float,
        label_format: str,
    ) -> None:
        _check_choice('annotate', annotate, ('all', 'one'))
        _check_choice('label_format', label_format, ('rows', 'sets'))
        _check_fraction('complete_fraction', complete_fraction)
        _check_fraction('label_noise', label_noise)
        if annotate == 'all' and complete_fraction:
            raise ValueError(
                "`complete_fraction` belongs to annotate='one'; with 'all' every "
                f'object is complete, got {complete_fraction}'
            )
        classes = tuple(classes)
        unknown = [name for name in classes if name not in CLASSES]
        if unknown or len(set(classes)) != len(classes):
            raise ValueError(
                f'`metainfo["classes"]` must be distinct names of the vocabulary, '
                f'got {unknown or classes}; see '
                'mmdet_imbalance.datasets.glyph_vocabulary.CLASSES'
            )
        self.annotate = annotate
        self.complete_fraction = complete_fraction
        self.label_noise = label_noise
        self.label_format = label_format
        self.chosen = [CLASSES.index(name) for name in classes]
        self._new_label = {old: new for new, old in enumerate(self.chosen)}
        self._concurrent = concurrent_leaves()
        self.label_sets = [
            labels
            for leaf in range(NUM_LEAVES)
            if leaf in self._new_label
            and len(labels := self._known((leaf, *self._concurrent[leaf]))) > 1
        ]
        self._set_id = {
            labels: len(classes) + i for i, labels in enumerate(self.label_sets)
        }

    def instances(self, seed: int, index: int, objects: list[list[int]]) -> list[dict]:
        """Instances of an image: a pure function of the arguments.

        Args:
            seed: of the dataset.
            index: of the image.
            objects: drawn leaf and box of each object: label, x1, y1, x2, y2.
        """
        annotation = stream(seed, index, 'annotation')
        noise = stream(seed, index, 'noise')
        instances = []
        for object_id, (leaf, *box) in enumerate(objects):
            is_complete = annotation.random() < self.complete_fraction
            is_wrong = noise.random() < self.label_noise
            others = np.delete(np.arange(NUM_LEAVES), self._concurrent[leaf])
            wrong = int(noise.choice(others))
            if is_wrong:
                leaves = (wrong,)
            elif self.annotate == 'all' or is_complete:
                leaves = (leaf, *self._concurrent[leaf])
            else:
                leaves = (leaf,)
            labels = self._known(leaves)
            shared = {
                'bbox': [float(v) for v in box],
                'ignore_flag': 0,
                'object_id': object_id,
                'true_labels': sorted(self._known(self._concurrent[leaf])),
            }
            # Drawn whether needed or not: `label_format` must not move the stream.
            order = annotation.permutation(len(labels))
            if not labels:
                continue
            if self.label_format == 'rows':
                rows = [{**shared, 'bbox_label': labels[i]} for i in order]
                instances.extend(rows)
            else:
                bbox_label = self._set_id.get(labels, labels[0])
                row = {'bbox_label': bbox_label, 'multi_labels': sorted(labels)}
                instances.append({**shared, **row})
        return instances

    def _known(self, leaves: Sequence[int]) -> tuple[int, ...]:
        """Distinct labels in the chosen classes, the order kept."""
        new = self._new_label
        return tuple(dict.fromkeys(new[leaf] for leaf in leaves if leaf in new))


def labels_of(instance: dict) -> list[int]:
    """All labels in [0, C) that an instance is annotated with."""
    return instance.get('multi_labels') or [instance['bbox_label']]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f'`{name}` must be one of {choices}, got {value!r}')


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f'`{name}` must be a fraction in [0, 1], got {value}')
