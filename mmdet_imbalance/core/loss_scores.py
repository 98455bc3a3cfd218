"""Scores that a loss gives to logits, be it of this package or of the host.

Shapes: R rows, C foreground classes. Deviations: none, this is plumbing.
"""

import torch
from torch import Tensor, nn

from mmdet_imbalance.core.precision import at_least_float32


def loss_scores(loss: nn.Module, logits: Tensor, num_classes: int) -> Tensor:
    """Scores by the activation that belongs to a loss, background last.

    Args:
        loss: a classification loss; one with `custom_activation` is asked, of another
            `use_sigmoid` decides.
        logits: shape (R, C + 1), or (R, C) of sigmoid losses.
        num_classes: number C of classes.

    Returns:
        Shape (R, C + 1), with gradient; a background that the loss does not know is 0.
    """
    logits = at_least_float32(logits)
    if getattr(loss, 'custom_activation', False):
        scores = loss.get_activation(logits)
    elif getattr(loss, 'use_sigmoid', False):
        scores = logits.sigmoid()
    else:
        scores = logits.softmax(dim=-1)
    if scores.size(1) == num_classes:
        scores = torch.cat([scores, torch.zeros_like(scores[:, :1])], dim=1)
    return scores
