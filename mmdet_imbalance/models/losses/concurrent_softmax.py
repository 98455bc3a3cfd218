"""Concurrent softmax for stock box heads and softmax dense heads.

Peng et al., "Large-Scale Object Detection in the Wild from Imbalanced Multi-Labels",
CVPR 2020, https://arxiv.org/abs/2005.08455, section 3.2; the equations are in
`core/concurrent_softmax.py`.

Shapes: N RoIs or anchors, C foreground classes (background is index C).

Deviations, where the paper leaves the hierarchy open:

* The rate comes from the label sets that stand on one object in the annotation, closed
  under the ancestors where there is a hierarchy.
* Between a class and its ancestor the rate is 1 in both directions, in training and at
  test time. An object of the class always is one of the ancestor; and the other way
  round, a counted P(descendant | ancestor) would let a likely descendant, of which the
  object is an example *too*, push the ancestor's score below one half.
  `descendant_rate='counted'` takes the count instead.
* The ancestors of a row's labels are positives, the descendants of its most specific
  labels are neither positive nor negative, in each of its terms.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmdet_imbalance.core.concurrent_rate import (
    DIRECTIONS,
    concurrent_rate,
    is_tree_order,
    log_keep_matrix,
)
from mmdet_imbalance.core.concurrent_softmax import (
    LABEL_REDUCTIONS,
    concurrent_softmax_scores,
    concurrent_softmax_terms,
)
from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.multi_label import MultiLabelLoss
from mmdet_imbalance.registry import MODELS

DESCENDANT_RATES = ('implied', 'counted')


@MODELS.register_module()
class ConcurrentSoftmaxLoss(MultiLabelLoss):
    """Softmax in which classes that may hold together do not suppress each other.

    Targets are labels (N,), to which the ancestors are added; a `MultiLabelTarget`;
    or dense multi-hot (N, C) or (N, C + 1).

    Box regression follows a row's primary label only: where ancestors are to be
    detected as well, set `reg_class_agnostic=True` in the box head, or the boxes of a
    class that is never primary stay untrained.

    Args:
        num_classes: number C of foreground classes.
        concurrent_rate: 'class_stats'; None or 0 for no concurrent classes beside
            those of the hierarchy; a (C, C) matrix; or a file with one: `.npy`, `.csv`
            or a file of class statistics `.json`.
        test_concurrent_rate: the same for the scores at test time; 'train' is the one
            of training.
        direction: 'given_row' is r_ij = P(j | i), 'given_col' its transpose; only for
            rates that are counted.
        label_reduction: 'sum' over the labels of a row, or 'mean'.
        hierarchy: whether ancestors are positives; None: where the statistics have a
            hierarchy.
        descendant_rate: 'implied' (1) or 'counted', see the module.
        **kwargs: arguments of `ClassificationLoss`. A class weight multiplies the term
            of its label.
    """

    weighs_terms = True

    def __init__(
        self,
        num_classes: int,
        concurrent_rate='class_stats',
        test_concurrent_rate='train',
        direction: str = 'given_row',
        label_reduction: str = 'sum',
        hierarchy: bool | None = None,
        descendant_rate: str = 'implied',
        **kwargs,
    ) -> None:
        super().__init__(num_classes=num_classes, hierarchy=hierarchy, **kwargs)
        for name, value, known in (
            ('direction', direction, DIRECTIONS),
            ('label_reduction', label_reduction, LABEL_REDUCTIONS),
            ('descendant_rate', descendant_rate, DESCENDANT_RATES),
        ):
            if value not in known:
                raise ValueError(f'`{name}` must be one of {known}, got {value!r}')
        self.direction = direction
        self.label_reduction = label_reduction
        self.descendant_rate = descendant_rate
        self.is_same_rate = isinstance(test_concurrent_rate, str) and (
            test_concurrent_rate == 'train'
        )
        self.register_buffer('log_keep', None, persistent=False)
        self.register_buffer('test_keep', None, persistent=False)
        self._add_rate('rate', concurrent_rate)
        if not self.is_same_rate:
            self._add_rate('test_rate', test_concurrent_rate)
        self.init_stats()

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Concurrent softmax loss of each row, shape (N,)."""
        labels, pos_inds, sets = self.split_target(target)
        return concurrent_softmax_terms(
            logits,
            labels,
            pos_inds,
            sets,
            self.log_keep,
            None,
            self.ancestors,
            self.class_weight,
            self.label_reduction,
            self._keeps_hierarchy,
        )

    def scores(self, logits: Tensor) -> Tensor:
        """Test-time scores, shape (N, C + 1)."""
        if self.test_keep is None:
            return logits.softmax(dim=1)
        return concurrent_softmax_scores(logits, self.test_keep)

    def stats_values(self, stats) -> dict:
        """Counted rates, beside what the base derives."""
        values = super().stats_values(stats)
        for name in {'rate', 'test_rate'} & set(self._stat_names):
            values[name] = self._counted_rate(stats)
        return values

    def stats_changed(self) -> None:
        """Renew the factors 1 - r from the rates and the hierarchy."""
        super().stats_changed()
        self.log_keep = self._log_keep(self.rate)
        self._keeps_hierarchy = self.ancestors is not None and (
            self.descendant_rate == 'implied' and is_tree_order(self.ancestors)
        )
        test_rate = self.rate if self.is_same_rate else self.test_rate
        test_log_keep = self._log_keep(test_rate)
        self.test_keep = None if test_log_keep is None else test_log_keep.exp()

    def _add_rate(self, name: str, rate) -> None:
        if isinstance(rate, str) and rate == 'class_stats':
            self.declare_stat(name, (self.num_classes, self.num_classes))
            return
        if rate is None or (isinstance(rate, (int, float)) and rate == 0):
            self.register_buffer(name, None)
            return
        if isinstance(rate, (str, Path)):
            rate = self._read(Path(rate))
        rate = torch.as_tensor(rate, dtype=torch.float32)
        if rate.shape != (self.num_classes, self.num_classes):
            raise ValueError(
                f'a concurrent rate of {self.num_classes} classes must have shape '
                f'({self.num_classes}, {self.num_classes}), got {tuple(rate.shape)}'
            )
        log_keep_matrix(rate)  # Checks the values.
        # Stands in the config, which must win over a checkpoint: not persistent.
        self.register_buffer(name, rate, persistent=False)

    def _read(self, path: Path):
        if not path.is_file():
            raise FileNotFoundError(f'file of concurrent rates {str(path)!r} not found')
        if path.suffix == '.json':
            return self._counted_rate(self._checked(path))
        if path.suffix == '.npy':
            return np.load(path, allow_pickle=False)
        if path.suffix == '.csv':
            return np.loadtxt(path, delimiter=',', ndmin=2)
        raise ValueError(
            f'a file of concurrent rates must be .npy, .csv or .json, got {str(path)!r}'
        )

    def _counted_rate(self, stats) -> Tensor:
        # Statistics that were not counted by this package may lack the expanded counts:
        # the rates between a class and its ancestors do not need them.
        is_expanded = getattr(stats, 'expanded_instance_count', None) is not None
        pairs = stats.pair_count(expanded=is_expanded and self.uses_hierarchy(stats))
        # The diagonal holds the objects of a class, in the same way of counting.
        return concurrent_rate(
            torch.as_tensor(pairs),
            torch.as_tensor(pairs.diagonal().copy()),
            self.direction,
        )

    def _log_keep(self, rate: Tensor | None) -> Tensor | None:
        ancestors = self.ancestors
        if ancestors is not None:
            if rate is None:
                rate = torch.zeros_like(ancestors, dtype=torch.float32)
            implied = ancestors
            if self.descendant_rate == 'implied':
                implied = ancestors | ancestors.t()
            rate = rate.masked_fill(implied, 1.0)
        # Plain softmax needs no factors.
        return None if rate is None or not rate.any() else log_keep_matrix(rate)

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return (
            f'{super().extra_repr()}, direction={self.direction!r}, '
            f'label_reduction={self.label_reduction!r}, '
            f'descendant_rate={self.descendant_rate!r}'
        )
