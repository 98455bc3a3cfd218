"""The partial asymmetric loss summed over the classes of a row, in one pass.

The terms are those of `class_aware_selective.partial_asymmetric_loss`; here they are
summed, and their derivative stands beside them, so that one matrix is needed and not a
dozen.

Shapes: N rows, C classes. Deviations: none.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.binary_terms import softplus
from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import with_closed_gradient
from mmdet_imbalance.core.partial_labels import POSITIVE, UNANNOTATED

#: Exponents for which a power is a product or nothing at all.
_SMALL_POWERS = {0.0, 1.0, 2.0}


def partial_asymmetric_rows(
    logits: Tensor,
    target: Tensor,
    gamma_pos: float,
    gamma_neg: float,
    gamma_unann: float,
    ignored: Tensor | None = None,
    detach_focal: bool = False,
) -> Tensor:
    """Sum of the asymmetric focal terms of each row.

    Args:
        logits: shape (N, C).
        target: int8 (N, C) of 1, 0 and -1 (un-annotated).
        gamma_pos: focusing exponent of the positives.
        gamma_neg: focusing exponent of the negatives.
        gamma_unann: focusing exponent of the un-annotated.
        ignored: bool (N, C), entries without a term; None is none.
        detach_focal: keep the gradient out of the focal factor.

    Returns:
        Shape (N,), float32 (float64 for float64 logits). Differentiable once.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    gammas = float(gamma_pos), float(gamma_neg), float(gamma_unann)
    return _asymmetric_rows(logits, target, ignored, *gammas, detach_focal)[0]


@with_closed_gradient('mmdet_imbalance::asymmetric_rows')
def _asymmetric_rows(
    logits: Tensor,
    target: Tensor,
    ignored: Tensor | None,
    gamma_pos: float,
    gamma_neg: float,
    gamma_unann: float,
    detach_focal: bool,
) -> tuple[Tensor, Tensor]:
    """Loss (N,) and its gradient (N, C)."""
    out = torch.empty_like(logits)
    sums = logits.new_empty(len(logits))
    largest = torch.finfo(logits.dtype).max
    for block in row_blocks(*logits.shape, logits.device):
        positive = target[block] == POSITIVE
        unannotated = target[block] == UNANNOTATED
        # A term of a positive is that of -z for another class; an entry without one
        # has a logit of minus infinity.
        z = torch.where(positive, -logits[block], logits[block])
        if ignored is not None:
            z.masked_fill_(ignored[block], -torch.inf)
        gamma = z.new_full(z.shape, gamma_neg)
        gamma.masked_fill_(unannotated, gamma_unann).masked_fill_(positive, gamma_pos)
        loss, prob = softplus(z), z.sigmoid()
        rest = 1.0 - prob
        if {gamma_pos, gamma_neg, gamma_unann} <= _SMALL_POWERS:
            one = torch.where(gamma == 1.0, prob, 1.0)
            power = torch.where(gamma == 2.0, prob * prob, one)
        else:
            # Kept finite, so that an exponent of 0 gives 1 at minus infinity.
            log = F.logsigmoid(z).clamp_(min=-largest)
            power = log.mul_(gamma).exp_()
        loss *= power
        grad = prob.mul_(power)
        if not detach_focal:
            # At infinity the rest is 0 and the loss infinite: no slope.
            grad.addcmul_(rest.mul_(gamma), loss.clamp(max=largest))
        sums[block] = loss.sum(dim=1)
        out[block] = torch.where(positive, -grad, grad)
    return sums, out
