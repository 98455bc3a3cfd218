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
from mmdet_imbalance.core.partial_labels import POSITIVE

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
    # A term of a positive is that of -z for another class: the few are taken out, an
    # entry without a term has a logit of minus infinity.
    at = (target == POSITIVE).nonzero(as_tuple=True)
    turned = -logits[at]
    out = logits.clone()
    out[at] = -torch.inf
    if ignored is not None:
        out.masked_fill_(ignored, -torch.inf)
    sums = logits.new_empty(len(logits))
    for block in row_blocks(*logits.shape, logits.device):
        is_unannotated = target[block].to(out.dtype).clamp_(max=0).neg_()
        terms = _terms_(
            out[block], gamma_neg, gamma_unann, is_unannotated, detach_focal
        )
        sums[block] = terms.sum(dim=1)
    none = torch.zeros_like(turned)
    sums.index_add_(0, at[0], _terms_(turned, gamma_pos, gamma_pos, none, detach_focal))
    out[at] = -turned
    return sums, out


def _terms_(
    z: Tensor, gamma: float, other_gamma: float, is_other: Tensor, detach_focal: bool
) -> Tensor:
    """sigmoid(z)^gamma softplus(z), elementwise; `z` becomes the derivative.

    `is_other` is 1 where `other_gamma` takes the place of `gamma`, and 0 elsewhere.
    """
    largest = torch.finfo(z.dtype).max
    loss = softplus(z)
    if {gamma, other_gamma} <= _SMALL_POWERS:
        prob = z.sigmoid_()
        power = _small_power(prob, gamma)
        if gamma != other_gamma:
            power = torch.lerp(power, _small_power(prob, other_gamma), is_other)
        gammas = is_other.mul_(other_gamma - gamma).add_(gamma)
    else:
        gammas = is_other.mul_(other_gamma - gamma).add_(gamma)
        # Kept finite, so that an exponent of 0 gives 1 at minus infinity.
        power = F.logsigmoid(z).clamp_(min=-largest).mul_(gammas).exp_()
        prob = z.sigmoid_()
    loss *= power
    rest = None if detach_focal else 1.0 - prob
    z.mul_(power)
    if rest is not None:
        # At infinity the rest is 0 and the loss infinite: no slope.
        z.addcmul_(rest.mul_(gammas), loss.clamp(max=largest))
    return loss


def _small_power(prob: Tensor, gamma: float) -> Tensor:
    if gamma == 0.0:
        return torch.ones_like(prob)
    return prob if gamma == 1.0 else prob * prob
