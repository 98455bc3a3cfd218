"""The partial asymmetric loss summed over the classes of a row, in one pass.

The terms are those of `class_aware_selective.partial_asymmetric_loss`; here they are
summed, and their derivative stands beside them, so that one matrix is needed and not a
dozen.

Shapes: N rows, C classes. Deviations: none.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.binary_terms import mixed_terms_
from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import with_closed_gradient
from mmdet_imbalance.core.partial_labels import POSITIVE
from mmdet_imbalance.core.precision import at_least_float32


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
    logits = at_least_float32(logits)
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
        terms = mixed_terms_(
            out[block], gamma_neg, gamma_unann, is_unannotated, detach_focal
        )
        sums[block] = terms.sum(dim=1)
    none = torch.zeros_like(turned)
    terms = mixed_terms_(turned, gamma_pos, gamma_pos, none, detach_focal)
    sums.index_add_(0, at[0], terms)
    out[at] = -turned
    return sums, out
