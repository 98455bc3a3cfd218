"""Imbalance profile of an annotation, counted without its images.

Shapes: I images, M rows (one label of one box each), C classes that have a box.
The imbalance factor is the largest over the smallest count (Cui et al., CVPR 2019,
arXiv 1901.05555); the Gini coefficient is of the counts of objects; frequency groups
are those of LVIS (Gupta et al., CVPR 2019, arXiv 1908.03195).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mmdet_imbalance.core.class_counting import count_classes, object_label_sets
from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_index import LabelIndex
from mmdet_imbalance.core.resampling import repeat_factors_of_index
from mmdet_imbalance.core.same_object import merge_same_objects

if TYPE_CHECKING:
    from mmdet_imbalance.recommendation.source import AnnotationSource

#: Least IoU of two annotations of one object; the default of the datasets.
SAME_OBJECT_IOU = 0.9


@dataclass
class PartialFacts:
    """What an annotation says about classes that it did not annotate everywhere.

    Attributes:
        source: where it says so; '' where it says nothing.
        known: fraction of the (image, class) entries that are decided: the class has
            a box there, or was verified absent.
        not_exhaustive: (image, class) entries of which not every object has a box.
    """

    source: str = ''
    known: float = 1.0
    not_exhaustive: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether any entry is open, as far as the annotation says."""
        return bool(self.source) and (self.known < 1 or self.not_exhaustive > 0)


@dataclass
class Profile:
    """Figures of an annotation.

    Attributes:
        stats: counts by class, label pairs of one object, ancestors.
        index: labels by image; rows of one object share their `objects` number.
        num_empty: images without an object.
        num_ignored: crowd and group-of rows.
        num_several: objects with several labels.
        num_unrelated: those of them whose labels are not one line of ancestors.
        box_size: median of the square root of a box's area, as a fraction of the
            longer side of its image; nan where sizes are unknown.
        partial: facts on partial annotation.
        unused_classes: names without a box.
    """

    stats: ClassStats
    index: LabelIndex
    num_empty: int
    num_ignored: int
    num_several: int
    num_unrelated: int
    box_size: float
    partial: PartialFacts = field(default_factory=PartialFacts)
    unused_classes: tuple[str, ...] = ()

    @property
    def num_objects(self) -> int:
        """Objects, each once however many labels it has."""
        keep = ~self.index.ignored
        return len(np.unique(self.index.objects[keep]))

    @property
    def gini(self) -> float:
        """Gini coefficient of the counts of objects: 0 equal, near 1 all in one."""
        return gini(self.stats.instance_count)

    @property
    def multi_label_fraction(self) -> float:
        """Objects with several labels, over all objects."""
        return self.num_several / max(self.num_objects, 1)

    @property
    def num_related(self) -> int:
        """Pairs (class, ancestor) of which both have boxes."""
        return int(self.stats.ancestor_matrix.sum()) - self.stats.num_classes

    def tail(self, factor: float = 10.0) -> np.ndarray:
        """Labels on less than a `factor`-th of the images of the most common class."""
        count = self.stats.img_count
        return np.flatnonzero(count * factor < count.max(initial=0))

    def sampling_gain(self, oversample_thr: float) -> float:
        """How much repeat factors raise the tail's share of objects, 1 is nothing.

        Geometric mean, over the classes that would be repeated, of the share of their
        objects after over before. Rare classes on images full of frequent ones gain
        little: repeating such an image repeats both.
        """
        freq = self.stats.img_freq
        chosen = np.flatnonzero(freq < oversample_thr)
        keep = ~self.index.ignored
        if not len(chosen) or not keep.any():
            return 1.0
        image, labels = self.index.image_of_row[keep], self.index.labels[keep]
        ptr = np.searchsorted(image, np.arange(len(self.index) + 1))
        factors = repeat_factors_of_index(ptr, labels, freq, oversample_thr)
        num = self.stats.num_classes
        before = np.bincount(labels, minlength=num) / len(labels)
        after = np.bincount(labels, weights=factors[image], minlength=num)
        after = after / after.sum()
        return float(np.exp(np.log(after[chosen] / before[chosen]).mean()))


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of counts (C,): mean absolute difference over twice the mean.

    Returns:
        0 for equal counts (or none), up to 1 - 1/C where one class has all.
    """
    counts = np.sort(np.asarray(counts, dtype=np.float64))
    num, total = len(counts), counts.sum()
    if num == 0 or total == 0:
        return 0.0
    rank = np.arange(1, num + 1)
    return float(((2 * rank - num - 1) * counts).sum() / (num * total))


def make_profile(
    source: 'AnnotationSource', ancestor_matrix: np.ndarray | None = None
) -> Profile:
    """Count.

    Args:
        source: the annotation.
        ancestor_matrix: bool, [child, ancestor], reflexive, of the source's classes.

    Raises:
        ValueError: no class has a box.
    """
    num = len(source.class_names)
    if ancestor_matrix is None:
        ancestor_matrix = np.eye(num, dtype=bool)
    has_box = np.bincount(source.label[~source.ignored], minlength=num) > 0
    if not has_box.any():
        raise ValueError(f'{source.path}: no box that is not a crowd or group-of box')
    # An ancestor that is a class of the file is learnt from its descendants' boxes.
    kept = ancestor_matrix[has_box].any(axis=0) if source.keeps_ancestors else has_box
    new_label = np.cumsum(kept) - 1
    ancestor_matrix = ancestor_matrix[np.ix_(kept, kept)]
    rows = np.flatnonzero(kept[source.label])
    # Objects are found among the rows of an image, which must lie together.
    rows = rows[np.argsort(source.image[rows], kind='stable')]
    index = _index(
        source.corners[rows],
        source.image[rows],
        new_label[source.label[rows]],
        source.ignored[rows],
        source.num_images,
    )
    names = np.array(source.class_names, dtype=object)
    stats = count_classes(index, names[kept].tolist(), ancestor_matrix)
    several, unrelated = _label_sets(index, ancestor_matrix)
    objects = np.bincount(
        index.image_of_row[~index.ignored], minlength=source.num_images
    )
    sizes = source.relative_sizes[np.isfinite(source.relative_sizes)]
    return Profile(
        stats=stats,
        index=index,
        num_empty=int((objects == 0).sum()),
        num_ignored=int(source.ignored.sum()),
        num_several=several,
        num_unrelated=unrelated,
        box_size=float(np.median(sizes)) if len(sizes) else float('nan'),
        partial=source.partial,
        unused_classes=tuple(names[~kept].tolist()),
    )


def _index(
    corners: np.ndarray,
    image: np.ndarray,
    labels: np.ndarray,
    ignored: np.ndarray,
    num_images: int,
) -> LabelIndex:
    """Rows by image, in which the labels of one object share a number."""
    real = np.flatnonzero(~ignored)
    # Without ancestors: the labels are wanted as they stand in the annotation.
    eye = np.eye(int(labels.max(initial=0)) + 1, dtype=bool)
    merged = merge_same_objects(
        corners[real], image[real], labels[real], eye, SAME_OBJECT_IOU
    )
    num, crowds = len(merged.keep), np.flatnonzero(ignored)
    more = [(place, k) for place, set_ in merged.sets.items() for k in set_[1:]]
    place, label = np.array(more, dtype=np.int64).reshape(-1, 2).T
    objects = np.concatenate([np.arange(num), place, num + np.arange(len(crowds))])
    row = np.concatenate([real[merged.keep], real[merged.keep][place], crowds])
    label = np.concatenate([merged.labels, label, labels[crowds]])
    order = np.argsort(image[row], kind='stable')
    ptr = np.searchsorted(image[row][order], np.arange(num_images + 1))
    return LabelIndex(ptr, label[order], ignored[row][order], objects[order])


def _label_sets(index: LabelIndex, ancestors: np.ndarray) -> tuple[int, int]:
    """Objects with several labels, and those of them whose labels are not one line."""
    sets, count = object_label_sets(index, len(ancestors))
    dense = sets.astype(np.float32)
    # Labels of the set that each label implies; one that implies all makes a line.
    implied = (dense @ ancestors.T.astype(np.float32)) * dense
    is_line = implied.max(axis=1, initial=0) == dense.sum(axis=1)
    several = dense.sum(axis=1) > 1
    return int(count[several].sum()), int(count[several & ~is_line].sum())
