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
    neg_weight = F.pad(torch.sigmoid(gamma * (ratio - mu)), (0, 1), value=1.0)
    pos_weight = 1.0 + alpha * (1.0 - neg_weight)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    # The label of the row is no negative: a logit of minus infinity has no term.
    others = logits.scatter(1, labels[:, None], -torch.inf)
    loss = (F.softplus(others) * neg_weight).sum(dim=1)
    loss = loss + pos_weight.to(logits.dtype)[labels] * F.softplus(-own)
    with torch.no_grad():
        kept = 1.0 if valid is None else valid[:, None].to(logits.dtype)
        negative = logits.sigmoid() * kept
        positive = (1.0 - negative.gather(1, labels[:, None])) * kept
        negative = negative.scatter(1, labels[:, None], 0.0).sum(dim=0) * neg_weight
        positive = torch.zeros_like(negative).index_add(0, labels, positive.squeeze(1))
        positive = positive * pos_weight
    return loss, positive[:num_classes], negative[:num_classes]
