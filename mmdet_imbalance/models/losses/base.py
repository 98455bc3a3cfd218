"""Protocol that every classification loss of the package shares.

The host wires a loss with its own channels, activation and accuracy through three
flags, and asks the wrong one in two places of its box head: all three are set here,
once, and all three methods exist.

Shapes: N RoIs or anchors, C foreground classes (background is index C).
Deviations from the host: `weight`, `avg_factor` and `reduction_override` take effect
in every loss; rows of weight 0 are invisible, also with inf or nan logits and with
any label; `class_weight` has one meaning everywhere (see `core/class_weights.py`).
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.class_weights import (
    check_rule,
    class_weight_vector,
    needs_class_stats,
)
from mmdet_imbalance.core.label_sets import (
    MultiLabelTarget,
    check_integers,
    check_labels,
    primary_labels,
)
from mmdet_imbalance.core.precision import at_least_float32, full_precision
from mmdet_imbalance.core.reduction import (
    check_reduction,
    hide_ignored_rows,
    weight_reduce,
)
from mmdet_imbalance.models.losses.class_stats_buffers import (
    STATS_HINT,
    ClassStatsBuffers,
)

#: Labels (N,), dense multi-hot (N, C) or (N, C + 1), a `MultiLabelTarget`, or the pair
#: (labels, quality) of the losses that want it.
Target = Tensor | MultiLabelTarget | tuple[Tensor, Tensor]

__all__ = ['STATS_HINT', 'ClassificationLoss', 'Target', 'primary_labels']


class ClassificationLoss(ClassStatsBuffers):
    """Base of the classification losses; subclasses give `row_loss` and `scores`.

    A subclass that derives something from class statistics calls `register_stats` at
    the end of its constructor and gives `stats_values`.

    Args:
        num_classes: number C of foreground classes.
        class_stats: statistics of the training set, or the file that
            `tools/class_stats.py` wrote; None leaves them to `ClassStatsHook`. What
            stands here wins over the hook.
        loss_weight: factor of the whole term.
        reduction: 'none', 'mean' or 'sum'.
        class_weight: weight of each class, as a list of C numbers (the background then
            weighs 1) or C + 1 (background last), or a rule such as
            `dict(type='effective_num', beta=0.999)`; `core/class_weights.py` lists the
            rules. A row's loss is multiplied by the weight of its class.
        use_sigmoid: nothing to choose: dense heads read it from the config of the loss
            to set their channels, so it is accepted, and must be right.
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True
    #: What the loss wants to be given: 'label', 'multi_label', 'partial', 'quality'.
    target_kind = 'label'
    #: Sigmoid losses have C channels, softmax losses C + 1.
    use_sigmoid = False
    #: A loss with a term per label weighs the terms in `row_loss` itself.
    weighs_terms = False

    def __init__(
        self,
        num_classes: int,
        class_stats=None,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
        class_weight=None,
        use_sigmoid: bool | None = None,
    ) -> None:
        super().__init__(num_classes, class_stats)
        if use_sigmoid is not None and use_sigmoid != self.use_sigmoid:
            raise ValueError(
                f'{type(self).__name__} is a '
                f'{"sigmoid" if self.use_sigmoid else "softmax"} loss: write '
                f'use_sigmoid={self.use_sigmoid}, got use_sigmoid={use_sigmoid}'
            )
        self.loss_weight = loss_weight
        self.reduction = check_reduction(reduction)
        # Box heads ask for their number of channels, the stock dense heads never do:
        # `get_activation` needs to know.
        self._head_knows_background = False
        self._class_weight_rule = class_weight
        if class_weight is None:
            self.register_buffer('class_weight', None)
        elif needs_class_stats(class_weight):
            check_rule(class_weight)
            self._register_unset('class_weight', (num_classes + 1,), torch.float32)
            if self._own_stats is not None:
                # Not `_fill`: the subclass is not built yet.
                rule = class_weight_vector(class_weight, num_classes, self._own_stats)
                self.class_weight.copy_(rule)
                self._is_ready = True
        else:
            # Stands in the config: no need to carry it in the checkpoint.
            values = class_weight_vector(class_weight, num_classes)
            self.register_buffer('class_weight', values, persistent=False)

    @property
    def cls_channels(self) -> int:
        """Number of logits of a row."""
        return self.num_classes + (0 if self.use_sigmoid else 1)

    # --- the host's protocol ---------------------------------------------------
    def get_cls_channels(self, num_classes: int) -> int:
        """Number of logits for a head of `num_classes`; checks that the two agree."""
        if num_classes != self.num_classes:
            raise ValueError(
                f'{type(self).__name__} was built with num_classes={self.num_classes}, '
                f'but its head has num_classes={num_classes}'
            )
        self._head_knows_background = True
        return self.cls_channels

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Test-time scores, shape (N, C + 1), background last.

        A stock dense head never asks for the number of channels and takes every
        column for a class, so there the background score is 0 at test time.
        """
        self.check_ready()
        logits = self.check_logits(cls_score)
        with full_precision(logits):
            scores = self.scores(logits)
        if self._head_knows_background or self.training:
            return scores
        return torch.cat([scores[:, :-1], torch.zeros_like(scores[:, -1:])], dim=1)

    def get_accuracy(self, cls_score: Tensor, labels: Target) -> dict[str, Tensor]:
        """Top-1 accuracy over foreground rows, in percent, as the host reports it."""
        labels = primary_labels(labels, self.num_classes)
        foreground = (labels >= 0) & (labels < self.num_classes)
        hit = cls_score[:, : self.num_classes].argmax(dim=1) == labels
        num = foreground.sum().clamp(min=1)
        return {'acc_classes': 100.0 * (hit & foreground).sum() / num}

    def forward(
        self,
        cls_score: Tensor,
        target: Target,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Loss of a minibatch.

        Args:
            cls_score: logits, shape (N, C + 1) or (N, C) for sigmoid losses; nan gives
                a nan loss.
            target: as `target_kind` says; labels (N,) always work.
            weight: per row, shape (N,); rows of weight 0 are invisible.
            avg_factor: divisor of the summed loss.
            reduction_override: reduction for this call.

        Returns:
            Scalar, or (N,) with reduction 'none'.
        """
        reduction = check_reduction(reduction_override or self.reduction)
        self.check_ready()
        logits = hide_ignored_rows(self.check_logits(cls_score), weight)
        target = self.check_target(target, len(logits), weight)
        with full_precision(logits):
            loss = self.valid_row_loss(logits, target, valid_rows(weight))
        if self.class_weight is not None and not self.weighs_terms:
            loss = loss * self.row_class_weight(target).to(loss.dtype)
        return self.loss_weight * weight_reduce(loss, weight, reduction, avg_factor)

    # --- what a subclass gives ---------------------------------------------------
    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Unreduced loss, shape (N,)."""
        raise NotImplementedError

    def valid_row_loss(
        self, logits: Tensor, target: Target, valid: Tensor | None
    ) -> Tensor:
        """`row_loss` for losses with statistics over rows: these override it.

        Args:
            logits: with zeros in the rows that are ignored.
            target: with the background as the label of the rows that are ignored.
            valid: rows that are not ignored, bool (N,); None where all are valid.
        """
        return self.row_loss(logits, target)

    def scores(self, logits: Tensor) -> Tensor:
        """Test-time scores, shape (N, C + 1), background last."""
        raise NotImplementedError

    def stats_values(self, stats) -> dict:
        """Class weights by a rule; extend in a subclass."""
        values = super().stats_values(stats)
        if 'class_weight' in self._stat_names:
            rule = self._class_weight_rule
            weight = class_weight_vector(rule, self.num_classes, stats)
            values['class_weight'] = weight
        return values

    # --- shared -------------------------------------------------------------------
    def row_class_weight(self, target: Target) -> Tensor:
        """Class weight of each row, shape (N,): the mean over the row's label set.

        A loss whose `target_kind` is 'label' has the term of the primary label alone,
        and its weight.
        """
        weight = self.class_weight
        if self.target_kind == 'label':
            return weight[primary_labels(target, self.num_classes)]
        if isinstance(target, Tensor) and target.ndim == 2:
            labels, sets, rows = None, (target > 0), None
        elif isinstance(target, MultiLabelTarget):
            labels, rows, sets = target
        else:
            return weight[primary_labels(target, self.num_classes)]
        sets = sets.to(weight.dtype)
        num = sets.sum(dim=1)
        mean = (sets * weight[: sets.size(1)]).sum(dim=1) / num.clamp(min=1)
        mean = torch.where(num > 0, mean, weight[-1])
        return mean if rows is None else weight[labels].index_copy(0, rows, mean)

    def check_logits(self, cls_score: Tensor) -> Tensor:
        """Upcast to float32 (float64 stays) after checking the shape."""
        if cls_score.ndim != 2 or cls_score.size(1) != self.cls_channels:
            raise ValueError(
                f'{type(self).__name__} of {self.num_classes} classes expects '
                f'`cls_score` of shape (N, {self.cls_channels}), got '
                f'{tuple(cls_score.shape)}. A dense head reads `use_sigmoid` from the '
                f'config of its loss: write use_sigmoid={self.use_sigmoid} there.'
            )
        return at_least_float32(cls_score)

    def check_target(
        self, target: Target, num_rows: int, weight: Tensor | None
    ) -> Target:
        """Check lengths and labels; ignored rows become background, whatever they say.

        The values are looked at on the CPU only: on a GPU that would stop the stream.
        """
        labels = target[0] if isinstance(target, tuple) else target
        if len(labels) != num_rows:
            raise ValueError(
                f'`target` must have a row for each of the {num_rows} rows of '
                f'`cls_score`, got {len(labels)}'
            )
        if labels.ndim != 1:
            return _with_labels(target, self._check_dense(labels, weight))
        check_integers(labels)
        labels = labels.long()
        if weight is not None and weight.ndim == 1:
            labels = labels.where(weight != 0, self.num_classes)
        check_labels(labels, self.num_classes)
        return _with_labels(target, labels)

    def _check_dense(self, target: Tensor, weight: Tensor | None) -> Tensor:
        if target.ndim != 2 or target.size(1) - self.num_classes not in (0, 1):
            raise ValueError(
                f'a dense target of {self.num_classes} classes must have shape (N, '
                f'{self.num_classes}) or (N, {self.num_classes + 1}), got '
                f'{tuple(target.shape)}'
            )
        if weight is None or weight.ndim != 1 or target.size(1) == self.num_classes:
            return target
        background = torch.zeros_like(target[:1])
        background[:, -1] = 1
        return target.where((weight != 0)[:, None], background)

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        text = f'num_classes={self.num_classes}, loss_weight={self.loss_weight}, '
        if self._class_weight_rule is not None:
            text += f'class_weight={self._class_weight_rule!r:.80}, '
        return text + f'reduction={self.reduction!r}'


def _with_labels(target: Target, labels: Tensor) -> Target:
    """The same form of target with other labels, its first part."""
    if not isinstance(target, tuple):
        return labels
    if hasattr(target, '_fields'):
        return type(target)(labels, *target[1:])
    return (labels, *target[1:])


def valid_rows(weight: Tensor | None) -> Tensor | None:
    """Rows that weigh anything, bool (N,), from a weight (N,) or (N, C)."""
    if weight is None:
        return None
    return weight > 0 if weight.ndim == 1 else (weight > 0).any(dim=1)
