"""Importance weights and extra losses, for the RoI head and the dense head alike.

Shapes: N RoIs or anchors of the batch, P positives among them, C foreground classes.
Deviations: none, this is plumbing.
"""

import copy

import torch
from torch import Tensor, nn

from mmdet_imbalance.core.reduction import weight_reduce
from mmdet_imbalance.models.losses.base import ClassificationLoss
from mmdet_imbalance.models.regions import TARGET_BUILDERS, Regions
from mmdet_imbalance.registry import MODELS, TASK_UTILS


class RegionLosses(nn.Module):
    """The classification loss under importance weights, and losses beside it.

    Args:
        importance_weights: configs of objects that weigh the rows of the
            classification loss, applied one after the other.
        extra_losses: configs of losses beside classification and regression.
    """

    def __init__(
        self,
        importance_weights: list[dict] | None = None,
        extra_losses: list[dict] | None = None,
    ) -> None:
        super().__init__()
        for name, configs in (
            ('importance_weights', importance_weights),
            ('extra_losses', extra_losses),
        ):
            if isinstance(configs, dict):
                raise ValueError(
                    f'`{name}` must be a list of configs, got the dict {configs}'
                )
        self.importance_weights = [
            TASK_UTILS.build(config) for config in importance_weights or ()
        ]
        self.extra_losses = nn.ModuleList(
            MODELS.build(config) for config in extra_losses or ()
        )

    @property
    def is_trivial(self) -> bool:
        """Whether there is nothing but the head's own two losses."""
        return not self.importance_weights and not len(self.extra_losses)

    def check_head(
        self, loss_cls: nn.Module, loss_bbox: nn.Module, coder, num_classes: int
    ) -> None:
        """Raise ValueError, saying why, for what cannot combine."""
        kind = getattr(loss_cls, 'target_kind', 'label')
        if kind not in TARGET_BUILDERS:
            raise ValueError(
                f'{type(loss_cls).__name__} wants targets of kind {kind!r}; the heads '
                f'build {sorted(TARGET_BUILDERS)}'
            )
        if self.importance_weights:
            check_row_losses(loss_cls, num_classes)
        for loss in self.extra_losses:
            if not hasattr(loss, 'region_loss'):
                raise ValueError(
                    f'{type(loss).__name__} is no extra loss: it has no method '
                    '`region_loss(regions, avg_factor)`'
                )
            loss.check_head(loss_cls, loss_bbox, coder)

    def classification(
        self, regions: Regions, avg_factor: float | Tensor
    ) -> dict[str, Tensor]:
        """Classification loss under the importance weights.

        Args:
            regions: RoIs or anchors of the batch.
            avg_factor: divisor of the summed loss, for losses that do not average by
                themselves.
        """
        loss_cls = regions.loss_cls
        kind = getattr(loss_cls, 'target_kind', 'label')
        target = TARGET_BUILDERS[kind](regions)
        if getattr(loss_cls, 'averages_over_valid', False):
            avg_factor = None
        if not self.importance_weights:
            loss = loss_cls(
                regions.cls_score, target, regions.label_weights, avg_factor=avg_factor
            )
            return loss if isinstance(loss, dict) else dict(loss_cls=loss)
        # Unreduced once, weighted after: a second call for the weights would count
        # twice in losses with running statistics.
        rows = loss_cls(
            regions.cls_score,
            target,
            regions.label_weights,
            avg_factor=avg_factor,
            reduction_override='none',
        )
        rows = sum_to_rows(rows, regions.labels, regions.num_classes)
        weights = torch.ones_like(rows.detach())
        for importance in self.importance_weights:
            weights = weights * importance(regions, rows.detach())
        return dict(loss_cls=weight_reduce(rows, weights, 'mean', avg_factor))

    def extras(self, regions: Regions, avg_factor: float | Tensor) -> dict[str, Tensor]:
        """Extra losses by name; `avg_factor` is that of the box regression."""
        return {
            loss.loss_name: loss.region_loss(regions, avg_factor)
            for loss in self.extra_losses
        }


def sum_to_rows(
    loss: Tensor | dict[str, Tensor], labels: Tensor, num_classes: int
) -> Tensor:
    """Unreduced loss of each row.

    Args:
        loss: shape (N,) or (N, C), or several such; a part of shape (P,) or (P, C)
            belongs to the positives (the host's seesaw loss has one of them).
        labels: shape (N,), background is C.
        num_classes: number C of foreground classes.

    Returns:
        Shape (N,).
    """
    parts = loss.values() if isinstance(loss, dict) else [loss]
    positive = (labels < num_classes).nonzero().squeeze(1)
    total = None
    for part in parts:
        if part.ndim == 2:
            part = part.sum(dim=1)
        if part.ndim == 0 and part.numel() == 1 and not len(positive):
            # The host's zero for a part that has no rows.
            part = part.expand(0)
        if part.shape == positive.shape and part.shape != labels.shape:
            part = part.new_zeros(len(labels)).index_add(0, positive, part)
        if part.shape != labels.shape:
            raise ValueError(
                f'an unreduced loss must have a value for each of the {len(labels)} '
                f'rows, got shape {tuple(part.shape)}'
            )
        total = part if total is None else total + part
    return total


@torch.no_grad()
def check_row_losses(loss_cls: nn.Module, num_classes: int) -> None:
    """Raise ValueError for a loss that cannot be weighed row by row."""
    if isinstance(loss_cls, ClassificationLoss):
        return
    if getattr(loss_cls, 'custom_cls_channels', False):
        channels = loss_cls.get_cls_channels(num_classes)
    else:
        channels = num_classes + (not getattr(loss_cls, 'use_sigmoid', False))
    labels = torch.tensor([0, num_classes, num_classes])
    try:
        # A copy: the loss may count the labels it sees.
        loss = copy.deepcopy(loss_cls)(
            torch.zeros(3, channels),
            labels,
            torch.ones(3),
            avg_factor=3,
            reduction_override='none',
        )
        sum_to_rows(loss, labels, num_classes)
    except (TypeError, ValueError, AssertionError, RuntimeError, IndexError) as error:
        raise ValueError(
            f'{type(loss_cls).__name__} cannot be combined with importance weights: it '
            f"gives no loss for each row with reduction_override='none' ({error})"
        ) from error


def check_distribution(coder, reg_decoded_bbox: bool) -> None:
    """Raise ValueError for distributions in a head that regresses encoded boxes."""
    if hasattr(coder, 'distributions') and not reg_decoded_bbox:
        raise ValueError(
            'DistributionBBoxCoder needs reg_decoded_bbox=True and a regression loss '
            'on decoded boxes, such as GIoULoss'
        )
