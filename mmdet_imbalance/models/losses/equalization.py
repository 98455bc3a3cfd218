"""Equalization loss v2 that predicts with the sigmoid it was trained with.

Tan et al., CVPR 2021, https://arxiv.org/abs/2012.08548; the equations are in
`core/equalization.py`.

Shapes: N RoIs, C foreground classes (background is index C).

Differs from the host's `EQLV2Loss`, whose hooks are never called: scores come from the
sigmoid, not from a softmax; `weight`, `avg_factor` and `reduction` take effect; ignored
rows are not accumulated; gradients are summed over all processes without being asked.
"""

import math

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmdet_imbalance.core.equalization import equalization_v2_loss
from mmdet_imbalance.models.losses.base import (
    ClassificationLoss,
    Target,
    primary_labels,
)
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class EqualizationLossV2(ClassificationLoss):
    """Sigmoid loss whose weights balance the gradients that each class has got.

    It has C + 1 channels, the last for "no object"; box heads only.

    Args:
        num_classes: number C of foreground classes.
        gamma: steepness of the weight; the paper uses 12.
        mu: centre of the weight; the paper uses 0.8.
        alpha: extra weight of positives; the paper uses 4.
        **kwargs: arguments of `ClassificationLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        gamma: float = 12.0,
        mu: float = 0.8,
        alpha: float = 4.0,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        if not (gamma >= 0 and alpha >= 0) or math.isnan(mu):
            raise ValueError(
                '`gamma` and `alpha` must not be negative and `mu` a number, got '
                f'gamma={gamma}, alpha={alpha}, mu={mu}'
            )
        self.gamma = gamma
        self.mu = mu
        self.alpha = alpha
        self.register_buffer('pos_grad', torch.zeros(num_classes))
        self.register_buffer('neg_grad', torch.zeros(num_classes))

    @property
    def ratio(self) -> Tensor:
        """Positive over negative gradient of each class, (C,); 100 at the start."""
        is_seen = (self.pos_grad + self.neg_grad).sum() > 0
        ratio = self.pos_grad / (self.neg_grad + 1e-10)
        return torch.where(is_seen, ratio, torch.full_like(ratio, 100.0))

    def valid_row_loss(
        self, logits: Tensor, target: Target, valid: Tensor | None
    ) -> Tensor:
        """Weighted binary terms of each row, shape (N,); updates the gradients."""
        labels = primary_labels(target, self.num_classes)
        loss, pos_grad, neg_grad = equalization_v2_loss(
            logits, labels, self.ratio, self.gamma, self.mu, self.alpha, valid
        )
        if self.training:
            self.update_gradients(pos_grad, neg_grad)
        return loss

    @torch.no_grad()
    def update_gradients(self, pos_grad: Tensor, neg_grad: Tensor) -> None:
        """Add gradients of a step, summed over all processes, (C,) each."""
        both = torch.stack([pos_grad, neg_grad]).to(self.pos_grad.dtype)
        all_reduce(both)
        self.pos_grad += both[0]
        self.neg_grad += both[1]

    def scores(self, logits: Tensor) -> Tensor:
        """Sigmoid of the class times that of "an object", shape (N, C + 1)."""
        scores = logits.sigmoid()
        background = scores[:, -1:]
        return torch.cat([scores[:, :-1] * (1.0 - background), background], dim=1)

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return (
            f'{super().extra_repr()}, gamma={self.gamma}, mu={self.mu}, '
            f'alpha={self.alpha}'
        )
