"""Label sets of a dataset that stands inside more classes than it annotates.

Ids of label sets begin at the number of classes.  Where a wrapper appends classes, the
datasets inside number their sets behind those, in the table of the larger number: each
record is then right by itself, through every wrapper, pipeline and mixing of images.

Shapes: C classes, those that are appended included.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmdet_imbalance.core.label_set_table import LabelSetTable
from mmdet_imbalance.datasets.label_index import parts_of


class WiderClasses:
    """The classes around a dataset.

    Args:
        num_inside: number of classes before some were appended.
        ancestor_matrix: of all C classes, bool (C, C), [child, ancestor], reflexive.
    """

    def __init__(self, num_inside: int, ancestor_matrix: np.ndarray) -> None:
        self.num_inside = num_inside
        self.ancestor_matrix = np.asarray(ancestor_matrix)
        self._depth = self.ancestor_matrix.sum(axis=1).tolist()

    @property
    def num_classes(self) -> int:
        """Number C of classes."""
        return len(self.ancestor_matrix)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, WiderClasses)
            and self.num_inside == other.num_inside
            and np.array_equal(self.ancestor_matrix, other.ancestor_matrix)
        )

    __hash__ = None

    def primary_first(self, labels: Sequence[int]) -> list[int]:
        """Labels of one set with the most specific one, by these ancestors, first.

        No label stands below the one with most ancestors; on a tie the order stays.
        """
        return sorted(labels, key=lambda label: -self._depth[label])


class NumbersLabelSets:
    """What a dataset with label sets offers to the wrappers around it."""

    _wider: WiderClasses | None = None

    def widen_label_sets(self, wider: WiderClasses) -> None:
        """Number the label sets behind the classes of a wrapper from now on.

        Raises:
            ValueError: another wrapper, not inside that one, has widened them already.
        """
        known = self._wider
        if known in (None, wider) or known.num_classes == wider.num_inside:
            self._wider = wider
            return
        raise ValueError(
            f'the label sets of this {type(self).__name__} are numbered behind the '
            f'{known.num_classes} classes of another ClassHierarchyDataset: give each '
            'of them a dataset of its own'
        )

    def set_table(self, num_classes: int) -> LabelSetTable:
        """The table of this process for the classes around, at least `num_classes`."""
        wider = self._wider
        return LabelSetTable.shared(num_classes if wider is None else wider.num_classes)

    def primary_first(self, labels: Sequence[int]) -> Sequence[int]:
        """Labels of a set, its primary one by the classes around first."""
        return labels if self._wider is None else self._wider.primary_first(labels)


def widen_label_sets(dataset: Any, wider: WiderClasses) -> None:
    """Number the label sets of all datasets behind some wrappers anew.

    Args:
        dataset: a dataset, or any wrapper of datasets.
        wider: the classes around it.

    Raises:
        ValueError: a dataset with label sets that cannot number them anew.
    """
    parts = parts_of(dataset)
    if parts is not None:
        for part in parts:
            widen_label_sets(part, wider)
    elif callable(getattr(dataset, 'widen_label_sets', None)):
        dataset.widen_label_sets(wider)
    elif getattr(dataset, 'dataset', None) is not None:
        widen_label_sets(dataset.dataset, wider)
    elif has_label_sets(dataset):
        raise_cannot_widen(dataset)


def has_label_sets(dataset: Any) -> bool:
    """Whether a dataset says that labels of its records may stand for sets."""
    metainfo = getattr(dataset, 'metainfo', None) or {}
    joins = getattr(dataset, 'same_object_iou', None) is not None
    joins = joins and not getattr(dataset, 'test_mode', False)
    return joins or bool(metainfo.get('label_sets'))


def raise_cannot_widen(dataset: Any) -> None:
    """Say what a dataset needs to stand inside more classes."""
    raise ValueError(
        '`add_ancestor_classes` appends classes where the labels of '
        f'{type(dataset).__name__} are ids of label sets: join no annotations in it, '
        'or give it `NumbersLabelSets` (mmdet_imbalance.datasets.wider_label_sets) '
        'for a base and take the ids from its `set_table`'
    )
