"""Seesaw loss: softmax whose negatives weigh by class counts and by mistakes.

Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021,
https://arxiv.org/abs/2008.10032, equations 3 to 7:

    L = -log(exp(z_i) / (sum_{j != i} S_ij exp(z_j) + exp(z_i))),    S_ij = M_ij C_ij
    M_ij = min(1, N_j / N_i)^p,    C_ij = max(1, s_j / s_i)^q

with N the samples seen of each class and s the softmax, held constant.

Shapes: N rows, C classes, without background. Deviations: none.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


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
        logits: (N, C).
        labels: int (N,) in [0, C).
        seen_count: samples seen of each class, (C,); below 1 counts as 1.
        p: strength of the mitigation by counts; the paper uses 0.8.
        q: strength of the compensation by mistakes; the paper uses 2.
        eps: least own score in the compensation, as in the authors' code.

    Returns:
        (N,).
    """
    with torch.no_grad():
        log_count = seen_count.to(logits.dtype).clamp(min=1.0).log()
        # In the log domain: rows of logits that are shifted, then a cross-entropy.
        shift = (p * (log_count - log_count[labels, None])).clamp(max=0.0)
        log_score = logits.log_softmax(dim=1)
        own = log_score.gather(1, labels[:, None])
        own = own.clamp(min=math.log(eps))
        shift += (q * (log_score - own)).clamp(min=0.0)
        shift.scatter_(1, labels[:, None], 0.0)
    return F.cross_entropy(logits + shift, labels, reduction='none')
