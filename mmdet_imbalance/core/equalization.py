"""Equalization loss v2: balance the gradients a class got as a label and as none.

Tan et al., "Equalization Loss v2: A New Gradient Balance Approach for Long-tailed
Object Detection", CVPR 2021, https://arxiv.org/abs/2012.08548, equations 5 to 8:

    g_j = (accumulated gradient of j's positives) / (… of its negatives)
    f(x) = 1 / (1 + exp(-gamma (x - mu)))
    negative terms weigh f(g_j), positive terms 1 + alpha (1 - f(g_j))

Shapes: N RoIs, C foreground classes; the last column is the "objectness" of the
authors' code: the background, which keeps weight 1.

Deviations: rows that are ignored take no part in the accumulation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.binary_terms import softplus
from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import (
    like_loss_and_gradient,
    with_closed_gradient,
)


def equalization_v2_loss(
    logits: Tensor,
    labels: Tensor,
    ratio: Tensor,
    gamma: float = 12.0,
    mu: float = 0.8,
    alpha: float = 4.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of each row, and what it adds to the accumulated gradients.

    Args:
        logits: (N, C + 1), background last.
        labels: int (N,) in [0, C].
        ratio: accumulated positive over negative gradient, (C,). 100 at the start.
        gamma: steepness of f; the paper uses 12.
        mu: centre of f; the paper uses 0.8.
        alpha: extra weight of positives; the paper uses 4.
        valid: bool (N,), rows that count; None is all.

    Returns:
        Loss (N,), summed over the columns; positive and negative gradients, (C,) each,
        detached.
    """
    num_classes = logits.size(1) - 1
    ratio = ratio.detach().to(logits.dtype)
    neg_weight = F.pad(torch.sigmoid(gamma * (ratio - mu)), (0, 1), value=1.0)
    pos_weight = 1.0 + alpha * (1.0 - neg_weight)
    loss, _, negative = _equalized_rows(logits, labels, neg_weight, pos_weight, valid)
    with torch.no_grad():
        own = logits.gather(1, labels[:, None]).squeeze(1)
        positive = torch.sigmoid(-own)
        if valid is not None:
            positive = positive * valid
        positive = torch.zeros_like(negative).index_add(0, labels, positive)
        positive = positive * pos_weight
        negative = negative * neg_weight
    return loss, positive[:num_classes], negative[:num_classes]


def _like_outputs(logits: Tensor, labels: Tensor, neg_weight: Tensor, *_):
    return *like_loss_and_gradient(logits), torch.empty_like(neg_weight)


# An operator of its own: the chain in place, block by block, needs one matrix.
@with_closed_gradient('mmdet_imbalance::equalized_rows', fake=_like_outputs)
def _equalized_rows(
    logits: Tensor,
    labels: Tensor,
    neg_weight: Tensor,
    pos_weight: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (N,), its gradient (N, C + 1), sums of the negatives' sigmoid (C + 1,)."""
    at = labels[:, None]
    own = logits.gather(1, at)
    # The label of the row is no negative: a logit of minus infinity has no term.
    grad = logits.scatter(1, at, -torch.inf)
    loss = logits.new_empty(len(logits))
    total = torch.zeros_like(neg_weight)
    kept = None if valid is None else valid.to(logits.dtype)
    for rows in row_blocks(len(logits), logits.size(1), logits.device):
        block = grad[rows]
        loss[rows] = softplus(block) @ neg_weight
        block.sigmoid_()
        total += block.sum(dim=0) if kept is None else kept[rows] @ block
        block.mul_(neg_weight)
    weight = pos_weight[labels]
    loss += weight * softplus(-own).squeeze(1)
    grad.scatter_(1, at, -weight[:, None] * torch.sigmoid(-own))
    return loss, grad, total
