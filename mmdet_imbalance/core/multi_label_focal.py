"""Sigmoid cross-entropy and focal loss on label sets, with stable closed gradients.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017,
https://arxiv.org/abs/1708.02002, equation 5; with gamma = 0 and no alpha it is binary
cross-entropy:

    L_c = -alpha_t (1 - p_t)^gamma log p_t,    p_t = p for a label, 1 - p otherwise

Shapes: N RoIs or anchors, C foreground classes; a background row has no label.

Deviations: the power is taken of a sigmoid, not of exp(-gamma y z - gamma log(1 +
exp(-z))), which overflows near z = -88 and gives hard positives no loss. Classes can be
ignored, and rows weighed by class.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.binary_terms import negative_sums_, negative_terms_
from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import with_closed_gradient
from mmdet_imbalance.core.label_sets import label_pairs, labels_or_sets
from mmdet_imbalance.core.precision import at_least_float32


def multi_label_focal_loss(
    logits: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float | None = None,
    ignore: Tensor | None = None,
) -> Tensor:
    """Focal loss of each row, summed over the classes.

    Args:
        logits: (N, C); nan gives nan.
        target: int (N,) in [0, C], background is C; or multi-hot (N, C).
        gamma: focusing exponent, 0 is binary cross-entropy. The paper uses 2.
        alpha: weight of positive terms, 1 - alpha of the others; None weighs both 1.
            The paper uses 0.25.
        ignore: bool (N, C), classes that are neither positive nor negative for the
            row; a positive is never ignored.

    Returns:
        (N,), float32 (float64 for float64 logits). Differentiable once.
    """
    check_focal_arguments(gamma, alpha)
    if logits.ndim != 2 or logits.size(1) < 1:
        raise ValueError(f'`logits` must have shape (N, C), got {tuple(logits.shape)}')
    logits = at_least_float32(logits)
    labels, sets = labels_or_sets(target, logits, logits.size(1), ignore)
    return focal_terms(logits, labels, None, sets, ignore, None, None, gamma, alpha)


def check_focal_arguments(gamma: float, alpha: float | None) -> None:
    """Raise ValueError for exponents and weights that are none."""
    if not gamma >= 0.0:
        raise ValueError(f'`gamma` must not be negative, got {gamma}')
    if alpha is not None and not 0.0 <= alpha <= 1.0:
        raise ValueError(f'`alpha` must be in [0, 1] or None, got {alpha}')


def focal_terms(
    logits: Tensor,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    ignore: Tensor | None,
    ancestors: Tensor | None,
    class_weight: Tensor | None,
    gamma: float,
    alpha: float | None,
) -> Tensor:
    """The loss for every form of target, (N,); arguments are not checked.

    Args:
        logits: (N, C), float32 or float64.
        labels: (N,); looked at without `label_sets` only.
        pos_inds: rows of `label_sets`, (P,); None where these are all rows.
        label_sets: bool (P, C), or None.
        ignore: bool (N, C), or None.
        ancestors: bool (C, C), [child, ancestor], reflexive: ancestors of a label
            become labels, its descendants are ignored.
        class_weight: (C + 1,); all terms of a row weigh as its most specific label,
            the mean where it has several; a background row as the last entry.
        gamma: focusing exponent.
        alpha: weight of positive terms, or None.
    """
    return _focal_rows(
        logits,
        labels,
        pos_inds,
        label_sets,
        ignore,
        ancestors,
        class_weight,
        float(gamma),
        -1.0 if alpha is None else float(alpha),
    )[0]


# An operator of its own because the number of labels depends on the data, which a
# compiler cannot trace, and because one pass in place needs one matrix, not a dozen.
@with_closed_gradient('mmdet_imbalance::focal_rows')
def _focal_rows(
    logits: Tensor,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    ignore: Tensor | None,
    ancestors: Tensor | None,
    class_weight: Tensor | None,
    gamma: float,
    alpha: float,
) -> tuple[Tensor, Tensor]:
    """Loss (N,) and its gradient (N, C)."""
    num_rows, num_classes = logits.shape
    pairs = label_pairs(labels, num_classes, pos_inds, label_sets, ancestors)
    row_weight = logits.new_ones(num_rows)
    if class_weight is not None:
        row_weight = _row_weights(pairs, class_weight, row_weight)
    # 1. A term of logit z is, for a label, the term of -z for another class: turn the
    #    few positives, and all terms are alike. Ignored: a logit of minus infinity.
    out = logits.clone()
    at = (pairs.rows, pairs.classes)
    turned = -out[at]
    if pairs.ignored is not None:
        owner, classes = pairs.ignored.nonzero(as_tuple=True)
        out[pairs.pos_rows[owner], classes] = -torch.inf
    if ignore is not None:
        out.masked_fill_(ignore, -torch.inf)
    out[at] = turned
    # 2. Loss and derivative of every term, in place of the logits.
    loss = logits.new_empty(num_rows)
    for block in row_blocks(num_rows, num_classes, logits.device):
        loss[block] = negative_sums_(out[block], gamma)
    # 3. The positives again: the sign of their derivative, and alpha.
    slope = -out[at]
    if alpha >= 0.0:
        positive = negative_terms_(turned, gamma)
        loss.mul_(1.0 - alpha).index_add_(0, pairs.rows, (2 * alpha - 1.0) * positive)
        out.mul_(1.0 - alpha)
        slope *= alpha
    out[at] = slope
    if class_weight is not None:
        loss.mul_(row_weight)
        out.mul_(row_weight[:, None])
    return loss, out


def _row_weights(pairs, class_weight: Tensor, row_weight: Tensor) -> Tensor:
    share = pairs.is_specific.to(row_weight.dtype)
    of_pair = class_weight.to(row_weight.dtype)[pairs.classes] * share
    total = torch.zeros_like(row_weight).index_add_(0, pairs.rows, of_pair)
    num = torch.zeros_like(row_weight).index_add_(0, pairs.rows, share)
    return torch.where(num > 0, total / num.clamp(min=1.0), class_weight[-1])
