"""Binary cross-entropy whose terms weigh by the bin of their gradient norm.

What GHM-C (`core/ghm.py`) computes for each term, in two passes, because the weights
depend on all terms.

Shapes: N anchors or RoIs, C foreground classes, K bins of the gradient norm.
Deviations: none, this is plumbing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_imbalance.core.binary_terms import softplus
from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import (
    like_loss_and_gradient,
    with_closed_gradient,
)
from mmdet_imbalance.core.label_sets import label_pairs


class BinaryTarget(NamedTuple):
    """A target of 0 and 1 in one of its forms.

    Attributes:
        dense: 0 or 1 (or bool), shape (N, C); None where the others tell.
        labels: shape (N,), background is C; looked at without `label_sets` only.
        pos_inds: rows of `label_sets`, (P,); None where these are all rows.
        label_sets: bool (P, C), or None.
        ancestors: bool (C, C), [child, ancestor], reflexive: ancestors of a label
            become labels, its descendants are no terms at all.
    """

    dense: Tensor | None = None
    labels: Tensor | None = None
    pos_inds: Tensor | None = None
    label_sets: Tensor | None = None
    ancestors: Tensor | None = None


def turn_and_count(
    logits: Tensor, target: BinaryTarget, valid: Tensor | None, num_bins: int
) -> tuple[Tensor, Tensor]:
    """Logits turned so that every term is one of a 0, and how these fill the bins.

    The term of a 1 is that of a 0 with the other sign, in its loss and in its gradient
    norm; a term that is not valid has a logit of minus infinity.

    Args:
        logits: shape (N, C).
        target: which terms are of a 1.
        valid: bool, shape (N,) or (N, C); None: all are valid.
        num_bins: number K of bins.

    Returns:
        Turned logits, shape (N, C); number of valid terms in each bin, shape (K,).
    """
    return _turn(logits.detach().contiguous(), *target, valid, num_bins)


def harmonized_cross_entropy(
    logits: Tensor,
    turned: Tensor,
    target: BinaryTarget,
    table: Tensor,
    keep_weights: bool = False,
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy, each term with the weight of its bin.

    Args:
        logits: shape (N, C), for their gradient.
        turned: those of `turn_and_count`, shape (N, C).
        target: the same.
        table: weight of each bin, shape (K + 1,), of `bin_weights`.
        keep_weights: whether to return the weights.

    Returns:
        Loss summed over the classes of each row, shape (N,); detached weights of the
        bins, shape (N, C), empty unless kept.
    """
    rows, _, weights = _harmonize(
        logits, turned, *target, table.to(logits.dtype), keep_weights
    )
    return rows, weights.detach()


# Operators of their own: the number of labels depends on the data, which a compiler
# cannot trace, and in blocks that fit the cache a chain of a dozen steps is fast.
@torch.library.custom_op('mmdet_imbalance::ghm_turn', mutates_args=())
def _turn(
    logits: Tensor,
    dense: Tensor | None,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    ancestors: Tensor | None,
    valid: Tensor | None,
    num_bins: int,
) -> tuple[Tensor, Tensor]:
    num_rows, num_classes = logits.shape
    turned = logits.clone()
    hidden = 0
    if dense is None:
        pairs = label_pairs(labels, num_classes, pos_inds, label_sets, ancestors)
        at = (pairs.rows, pairs.classes)
        turned[at] = -turned[at]
        if pairs.ignored is not None:
            owner, classes = pairs.ignored.nonzero(as_tuple=True)
            rows = pairs.pos_rows[owner]
            turned[rows, classes] = -torch.inf
            is_first = len(rows) if valid is None else _is_valid(valid, rows, classes)
            hidden = hidden + is_first
    if valid is not None and valid.ndim == 1:
        rows = (~valid).nonzero().squeeze(1)
        turned.index_fill_(0, rows, -torch.inf)
        hidden = hidden + len(rows) * num_classes
    elif valid is not None:
        hidden = hidden + (~valid).sum()
    count = logits.new_zeros(num_bins, dtype=torch.float64)
    for rows in row_blocks(num_rows, num_classes, logits.device):
        block = turned[rows]
        if dense is not None:
            block.mul_(_sign(dense[rows], block.dtype))
        if valid is not None and valid.ndim == 2:
            block.masked_fill_(~valid[rows], -torch.inf)
        count += bin_count(bin_index(block.sigmoid(), None, num_bins), num_bins)
    # What is hidden has a gradient norm of 0.
    count[0] -= hidden
    return turned, count.to(logits.dtype)


@_turn.register_fake
def _(logits, *args):
    return torch.empty_like(logits), logits.new_empty(args[-1])


def _like_outputs(logits: Tensor, turned: Tensor, *others):
    keep_weights = others[-1]
    shape = logits.shape if keep_weights else (0, 0)
    return *like_loss_and_gradient(turned), turned.new_empty(shape)


@with_closed_gradient('mmdet_imbalance::ghm_harmonize', fake=_like_outputs)
def _harmonize(
    logits: Tensor,
    turned: Tensor,
    dense: Tensor | None,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    ancestors: Tensor | None,
    table: Tensor,
    keep_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (N,), its gradient (N, C), and the weights (N, C) or (0, 0)."""
    num_rows, num_classes = logits.shape
    loss = logits.new_empty(num_rows)
    grad = torch.empty_like(turned)
    weights = torch.empty_like(grad) if keep_weights else grad.new_empty(0, 0)
    for rows in row_blocks(num_rows, num_classes, logits.device):
        prob = torch.sigmoid(turned[rows], out=grad[rows])
        index = bin_index(prob, None, len(table) - 1)
        weight = table.index_select(0, index.flatten()).view_as(prob)
        if keep_weights:
            weights[rows] = weight
        prob.mul_(weight)
        loss[rows] = weight.mul_(softplus(turned[rows])).sum(dim=1)
        if dense is not None:
            prob.mul_(_sign(dense[rows], prob.dtype))
    if dense is None:
        pairs = label_pairs(labels, num_classes, pos_inds, label_sets, ancestors)
        at = (pairs.rows, pairs.classes)
        grad[at] = -grad[at]
    return loss, grad, weights


def _sign(target: Tensor, dtype: torch.dtype) -> Tensor:
    """-1 for a target of 1, 1 for one of 0."""
    return target.to(dtype, copy=True).mul_(-2.0).add_(1.0)


def _is_valid(valid: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
    """How many of the entries are valid otherwise, a scalar."""
    return (valid[rows] if valid.ndim == 1 else valid[rows, classes]).sum()


def bin_index(norm: Tensor, valid: Tensor | None, num_bins: int) -> Tensor:
    """Bin of each gradient norm, int32, K where it is not valid."""
    # Clamped from below too: nan becomes any integer, and must reach the loss as nan.
    index = (norm * num_bins).int().clamp_(0, num_bins - 1)
    return index if valid is None else index.masked_fill_(~valid, num_bins)


def bin_count(index: Tensor, num_bins: int) -> Tensor:
    """Number of terms in each bin, shape (K,); those of index K are left out."""
    if index.is_cuda or torch.compiler.is_compiling():
        # `bincount` waits for the device, and its output has no static shape.
        count = torch.histc(index.float(), num_bins + 1, min=0, max=num_bins + 1)
    else:
        count = index.flatten().bincount(minlength=num_bins + 1)
    return count[:num_bins]
