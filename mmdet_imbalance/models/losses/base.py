"""Protocol that every classification loss of the package shares.

The host wires a loss with its own channels, activation and accuracy through three
flags, and asks the wrong one in two places of its box head: all three are set here,
once, and all three methods exist.

Shapes: N RoIs or anchors, C foreground classes (background is index C).
Deviations from the host: `weight`, `avg_factor` and `reduction_override` take effect
in every loss; rows of weight 0 are invisible, also with inf or nan logits.
"""

import torch
from torch import Tensor, nn

from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.core.reduction import (
    check_reduction,
    hide_ignored_rows,
    weight_reduce,
)

Target = Tensor | MultiLabelTarget

STATS_HINT = (
    "Add `dict(type='mmdet_imbalance.ClassStatsHook')` to `custom_hooks`, or count once "
    'with `python tools/class_stats.py CONFIG --out FILE` and write '
    "`class_stats='FILE'` in the loss."
)


class ClassificationLoss(nn.Module):
    """Base of the classification losses; subclasses give `row_loss` and `scores`.

    Args:
        num_classes: number C of foreground classes.
        class_stats: statistics of the training set, or the file that
            `tools/class_stats.py` wrote; None leaves them to `ClassStatsHook`.
        loss_weight: factor of the whole term.
        reduction: 'none', 'mean' or 'sum'.
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True
    #: What the loss wants to be given: 'label', 'multi_label', 'partial', 'quality'.
    target_kind = 'label'
    #: Sigmoid losses have C channels, softmax losses C + 1.
    use_sigmoid = False

    def __init__(
        self,
        num_classes: int,
        class_stats=None,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f'`num_classes` must be at least 1, got {num_classes}')
        self.num_classes = num_classes
        self.loss_weight = loss_weight
        self.reduction = check_reduction(reduction)
        # Box heads ask for their number of channels, the stock dense heads never do:
        # `get_activation` needs to know.
        self._head_knows_background = False

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
        scores = self.scores(self.check_logits(cls_score))
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
            cls_score: logits, shape (N, C + 1) or (N, C) for sigmoid losses.
            target: as `target_kind` says; labels (N,) always work.
            weight: per row, shape (N,); rows of weight 0 are invisible.
            avg_factor: divisor of the summed loss.
            reduction_override: reduction for this call.

        Returns:
            Scalar, or (N,) with reduction 'none'.
        """
        reduction = check_reduction(reduction_override or self.reduction)
        logits = hide_ignored_rows(self.check_logits(cls_score), weight)
        loss = self.row_loss(logits, target)
        return self.loss_weight * weight_reduce(loss, weight, reduction, avg_factor)

    # --- what a subclass gives ---------------------------------------------------
    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Unreduced loss, shape (N,)."""
        raise NotImplementedError

    def scores(self, logits: Tensor) -> Tensor:
        """Test-time scores, shape (N, C + 1), background last."""
        raise NotImplementedError

    # --- shared -------------------------------------------------------------------
    def check_logits(self, cls_score: Tensor) -> Tensor:
        """Upcast to float32 (float64 stays) after checking the shape."""
        if cls_score.ndim != 2 or cls_score.size(1) != self.cls_channels:
            raise ValueError(
                f'{type(self).__name__} of {self.num_classes} classes expects '
                f'`cls_score` of shape (N, {self.cls_channels}), got '
                f'{tuple(cls_score.shape)}. A dense head reads `use_sigmoid` from the '
                f'config of its loss: write use_sigmoid={self.use_sigmoid} there.'
            )
        return cls_score if cls_score.dtype == torch.float64 else cls_score.float()

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return (
            f'num_classes={self.num_classes}, loss_weight={self.loss_weight}, '
            f'reduction={self.reduction!r}'
        )


def primary_labels(target: Target, num_classes: int) -> Tensor:
    """One label a row, shape (N,), of any form of target; background is C."""
    if isinstance(target, MultiLabelTarget):
        return target.labels
    if target.ndim == 1:
        return target
    foreground = target[:, :num_classes]
    return torch.where(
        foreground.any(dim=1), foreground.int().argmax(dim=1), num_classes
    )
