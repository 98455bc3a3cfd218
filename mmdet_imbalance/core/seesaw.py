"""Seesaw loss: softmax whose negatives weigh by class counts and by mistakes.

Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021,
https://arxiv.org/abs/2008.10032, equations 3 to 7:

    L = -log(exp(z_i) / (sum_{j != i} S_ij exp(z_j) + exp(z_i))),    S_ij = M_ij C_ij
    M_ij = min(1, N_j / N_i)^p,    C_ij = max(1, s_j / s_i)^q

with N the samples seen of each class and s the softmax, held constant.

Shapes: N rows, C foreground classes (background is index C).
Deviations: none; the factor of a row's own class is 1 in both products.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import with_closed_gradient


def seesaw_loss(
    logits: Tensor,
    labels: Tensor,
    seen_count: Tensor,
    p: float = 0.8,
    q: float = 2.0,
    eps: float = 1e-2,
) -> Tensor:
    """Seesaw loss of each row.

    Args:
        logits: (N, C), or (N, C + 2) with "an object" and "no object" last, whose
            cross-entropy is added.
        labels: int (N,) in [0, C]; a background row has no term of the classes.
        seen_count: samples seen of each class, (C,); below 1 counts as 1.
        p: strength of the mitigation by counts; the paper uses 0.8.
        q: strength of the compensation by mistakes; the paper uses 2.
        eps: least own score in the compensation, as in the authors' code.

    Returns:
        (N,). Differentiable once.

    Raises:
        ValueError: `logits` has neither C nor C + 2 columns.
    """
    if logits.ndim != 2 or logits.size(1) - len(seen_count) not in (0, 2):
        raise ValueError(
            f'`logits` must have shape (N, {len(seen_count)}) or (N, '
            f'{len(seen_count) + 2}), got {tuple(logits.shape)}'
        )
    log_count = seen_count.detach().to(logits.dtype).clamp(min=1.0).log()
    return _seesaw_rows(logits, labels, log_count, float(p), float(q), float(eps))[0]


# An operator of its own: only the rows of objects, whose number depends on the data,
# need the weights of all pairs of classes.
@with_closed_gradient('mmdet_imbalance::seesaw_rows')
def _seesaw_rows(
    logits: Tensor,
    labels: Tensor,
    log_count: Tensor,
    p: float,
    q: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Loss (N,) and its gradient, in the shape of the logits."""
    num_classes = len(log_count)
    loss = logits.new_zeros(len(logits))
    grad = torch.zeros_like(logits)
    objects = (labels < num_classes).nonzero().squeeze(1)
    for block in row_blocks(len(objects), num_classes, logits.device):
        rows = objects[block]
        own = labels[rows].unsqueeze(1)
        z = logits.index_select(0, rows)[:, :num_classes]
        # In the log domain: logits that are shifted, then a cross-entropy. The own
        # class has a shift of 0 by itself.
        score = F.log_softmax(z, dim=1)
        least = score.gather(1, own).clamp_(min=math.log(eps))
        shifted = score.sub_(least).mul_(q).clamp_(min=0.0).add_(z)
        shifted += (log_count - log_count[own]).mul_(p).clamp_(max=0.0)
        terms = F.log_softmax(shifted, dim=1)
        term = terms.gather(1, own)
        loss[rows] = -term.squeeze(1)
        terms.exp_().scatter_(1, own, term.expm1_())
        grad[rows, :num_classes] = terms
    if logits.size(1) > num_classes:
        is_bg = (labels >= num_classes).long().unsqueeze(1)
        terms = F.log_softmax(logits[:, num_classes:], dim=1)
        term = terms.gather(1, is_bg)
        loss -= term.squeeze(1)
        grad[:, num_classes:] = terms.exp_().scatter_(1, is_bg, term.expm1_())
    return loss, grad
