"""What the losses on label sets share: the hierarchy, and the forms of target.

Shapes: N RoIs or anchors, P positives among them, C foreground classes (background is
index C).
Deviations: none, this is plumbing.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.models.losses.base import ClassificationLoss, Target


class MultiLabelLoss(ClassificationLoss):
    """Base of losses on label sets; plain labels are expanded with the hierarchy.

    A subclass declares what it needs by `declare_stat` and calls `init_stats` at the
    end of its constructor.

    Args:
        num_classes: number C of foreground classes.
        hierarchy: whether the ancestors of a label are positives and its descendants
            neither positive nor negative. True: always, with the ancestor matrix of
            the class statistics, without which the loss refuses to run. False: never.
            None: where statistics come and have a hierarchy.
        **kwargs: arguments of `ClassificationLoss`.
    """

    target_kind = 'multi_label'

    def __init__(
        self, num_classes: int, hierarchy: bool | None = None, **kwargs
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        if hierarchy not in (None, True, False):
            raise ValueError(
                f'`hierarchy` must be True, False or None, got {hierarchy!r}'
            )
        self.hierarchy = hierarchy
        self._declared: dict[str, tuple[int, ...]] = {}
        # bool cannot be nan: the matrix is a float, and what is used is derived.
        self.register_buffer('ancestors', None, persistent=False)
        if hierarchy is True:
            self.declare_stat('ancestor_matrix', (num_classes, num_classes))
        elif hierarchy is None:
            self.register_buffer('ancestor_matrix', torch.eye(num_classes))
        else:
            self.register_buffer('ancestor_matrix', None)

    def declare_stat(self, name: str, shape: tuple[int, ...]) -> None:
        """Note a statistic that `init_stats` registers."""
        self._declared[name] = shape

    def init_stats(self) -> None:
        """Register what was declared, and derive what is known already."""
        self.register_stats(**self._declared)
        if self._own_stats is None and self._is_ready:
            self.stats_changed()

    def uses_hierarchy(self, stats) -> bool:
        """Whether the ancestors of these statistics are to be used."""
        return self.hierarchy is not False and bool(
            torch.as_tensor(stats.ancestor_matrix).sum() > self.num_classes
        )

    def stats_values(self, stats) -> dict:
        """The ancestor matrix, beside what the base derives."""
        values = super().stats_values(stats)
        if self.hierarchy is not False:
            if self.hierarchy is True and not self.uses_hierarchy(stats):
                raise ValueError(
                    f'{type(self).__name__} has hierarchy=True, but no class of the '
                    'statistics has an ancestor: wrap the dataset in '
                    '`mmdet_imbalance.ClassHierarchyDataset`, or write hierarchy=None'
                )
            values['ancestor_matrix'] = stats.ancestor_matrix
        return values

    def stats_changed(self) -> None:
        """Derive the matrix that is used; None where no class has an ancestor."""
        matrix = self.ancestor_matrix
        has_any = matrix is not None and bool(matrix.sum() > self.num_classes)
        self.ancestors = matrix > 0.5 if has_any else None

    def row_class_weight(self, target: Target) -> Tensor:
        """Class weight of each row, (N,): the mean over its most specific labels."""
        if self.ancestors is not None and not _is_plain(target):
            _, _, sets = self.split_target(target)
            descendants = self.ancestors.float().fill_diagonal_(0.0)
            specific = sets & (sets.float() @ descendants == 0)
            if isinstance(target, MultiLabelTarget):
                target = target._replace(multi_labels=specific)
            else:
                target = specific
        return super().row_class_weight(target)

    def split_target(
        self, target: Target
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Labels (N,), rows of the label sets, label sets (P, C), each or None."""
        if isinstance(target, MultiLabelTarget):
            if target.multi_labels.size(1) != self.num_classes or len(
                target.multi_labels
            ) != len(target.pos_inds):
                raise ValueError(
                    '`multi_labels` must have a row for each of `pos_inds` and '
                    f'{self.num_classes} columns, got '
                    f'{tuple(target.multi_labels.shape)} for '
                    f'{len(target.pos_inds)} rows'
                )
            return target.labels, target.pos_inds, target.multi_labels > 0
        if target.ndim == 1:
            return target, None, None
        sets = target > 0
        if sets.size(1) > self.num_classes:
            background = sets[:, -1:]
            sets = sets[:, :-1]
            if not torch.compiler.is_compiling() and target.device.type == 'cpu':
                wrong = (sets.any(dim=1, keepdim=True) == background).squeeze(1)
                if wrong.any():
                    raise ValueError(
                        'each row of a multi-hot target with a background column must '
                        'hold foreground labels or the background alone; row '
                        f'{int(wrong.int().argmax())} does not'
                    )
        return None, None, sets


def _is_plain(target: Target) -> bool:
    return isinstance(target, Tensor) and target.ndim == 1
