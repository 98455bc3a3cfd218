"""Quality focal loss and distribution focal loss.

Li et al., "Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes
for Dense Object Detection", NeurIPS 2020, https://arxiv.org/abs/2006.04388,
equations 4 to 6.

Shapes: N anchors or RoIs, C foreground classes (background is index C), n + 1 values
0..n of a distribution.
Deviations: a row may bear several labels, each with the row's quality; labels may be
"neither" (`valid`), and a row may be weighted by its class.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.binary_terms import negative_sums_, softplus
from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import with_closed_gradient
from mmdet_imbalance.core.label_sets import check_integers, check_labels, label_pairs
from mmdet_imbalance.core.precision import at_least_float32


def quality_focal_loss(
    logits: Tensor,
    labels: Tensor,
    quality: Tensor,
    beta: float = 2.0,
    valid: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy with the box's quality as target, focused on the gap.

    `QFL = |y - s|^beta * BCE(s, y)` with y the quality at the labels of the row and 0
    elsewhere, s the predicted probability. The gap is not detached, as in the paper.

    Args:
        logits: shape (N, C).
        labels: class of each row, shape (N,), background C; or multi-hot of shape
            (N, C).
        quality: IoU of the predicted box, in [0, 1], shape (N,); ignored for
            background. A constant: no gradient flows into it.
        beta: exponent of the gap. The paper uses 2; 0 gives binary cross-entropy.
        valid: bool, shape (N, C); terms that are not valid count nothing, also with inf
            or nan logits.

    Returns:
        Loss summed over classes, shape (N,). Differentiable once.

    Raises:
        ValueError: shapes do not fit, or a label outside [0, C].
    """
    num, num_classes = logits.shape
    if quality.shape != (num,) or labels.shape not in ((num,), (num, num_classes)):
        raise ValueError(
            f'`labels` must have shape ({num},) or ({num}, {num_classes}) and '
            f'`quality` ({num},), got {tuple(labels.shape)} and '
            f'{tuple(quality.shape)}'
        )
    if not beta >= 0:
        raise ValueError(f'`beta` must not be negative, got {beta}')
    if valid is not None and valid.shape != logits.shape:
        raise ValueError(
            f'`valid` must have shape {tuple(logits.shape)}, got {tuple(valid.shape)}'
        )
    logits = at_least_float32(logits)
    sets = None
    if labels.ndim == 1:
        check_integers(labels)
        labels = labels.long()
        check_labels(labels, num_classes)
    else:
        labels, sets = None, labels > 0
    ignore = None if valid is None else ~valid
    return quality_focal_terms(logits, labels, None, sets, quality, ignore, None, beta)


def quality_focal_terms(
    logits: Tensor,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    quality: Tensor | None,
    ignore: Tensor | None,
    ancestors: Tensor | None,
    beta: float,
) -> Tensor:
    """The quality focal loss for every form of target, (N,); nothing is checked.

    Args:
        logits: (N, C), float32 or float64.
        labels: (N,); looked at without `label_sets` only.
        pos_inds: rows of `label_sets`, (P,); None where these are all rows.
        label_sets: bool (P, C), or None.
        quality: (N,); None is 1 everywhere.
        ignore: bool (N, C), terms that count nothing; or None.
        ancestors: bool (C, C), [child, ancestor], reflexive: ancestors of a label
            become labels, its descendants are ignored.
        beta: exponent of the gap.
    """
    if quality is not None:
        quality = quality.detach().to(logits.dtype)
    return _quality_rows(
        logits, labels, pos_inds, label_sets, quality, ignore, ancestors, float(beta)
    )[0]


# An operator of its own, like those of the other losses on label sets: the number of
# labels depends on the data, and one pass in place needs one matrix, not a dozen.
@with_closed_gradient('mmdet_imbalance::quality_focal_rows')
def _quality_rows(
    logits: Tensor,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    quality: Tensor | None,
    ignore: Tensor | None,
    ancestors: Tensor | None,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """Loss (N,) and its gradient (N, C)."""
    num_rows, num_classes = logits.shape
    pairs = label_pairs(labels, num_classes, pos_inds, label_sets, ancestors)
    # 1. All but the labels are focal terms of exponent beta: with a quality of 0, the
    #    gap is the score. Labels and what is ignored: a logit of minus infinity.
    at = (pairs.rows, pairs.classes)
    own = logits[at]
    out = logits.clone()
    out[at] = -torch.inf
    if pairs.ignored is not None:
        owner, classes = pairs.ignored.nonzero(as_tuple=True)
        out[pairs.pos_rows[owner], classes] = -torch.inf
    if ignore is not None:
        out.masked_fill_(ignore, -torch.inf)
    loss = logits.new_empty(num_rows)
    for block in row_blocks(num_rows, num_classes, logits.device):
        loss[block] = negative_sums_(out[block], beta)
    # 2. The labels, few, with a derivative of two parts.
    wanted = own.new_ones(()) if quality is None else quality[pairs.rows]
    if ignore is not None:
        own = own.masked_fill(ignore[at], -torch.inf)
        wanted = torch.where(ignore[at], 0.0, wanted)
    term, slope = _quality_pairs(own, wanted, beta)
    loss.index_add_(0, pairs.rows, term)
    out[at] = slope
    return loss, out


def _quality_pairs(
    logits: Tensor, quality: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Terms of labels and their derivatives, (Q,) each."""
    score = logits.sigmoid()
    gap = score - quality
    # Not softplus(z) - y z, whose difference loses the digits of a good prediction.
    is_up = (logits > 0).to(logits.dtype)
    entropy = softplus(-logits.abs())
    # 0 * inf where the target is met at an infinite logit.
    rest = is_up - quality
    entropy = entropy + torch.where(rest == 0, 0.0, rest * logits)
    if beta == 0.0:
        return entropy, gap
    size = gap.abs()
    power = size.pow(beta)
    # |x|^beta has no usable gradient at 0 for beta below 1.
    focus = torch.where(size > 0, beta * power / size, 0.0) * gap.sign()
    return power * entropy, power * gap + focus * score * (1.0 - score) * entropy


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with the two integers around a real-valued target.

    Args:
        logits: of the values 0..n, shape (N, n + 1).
        target: shape (N,); values outside [0, n] are taken for the nearer end.

    Returns:
        Loss, shape (N,).

    Raises:
        ValueError: shapes do not fit.
    """
    if logits.ndim != 2 or logits.size(1) < 2 or target.shape != logits.shape[:1]:
        raise ValueError(
            '`logits` must have shape (N, n + 1) with n at least 1 and `target` (N,), '
            f'got {tuple(logits.shape)} and {tuple(target.shape)}'
        )
    logits = at_least_float32(logits)
    target = target.to(logits.dtype).clamp(0, logits.size(1) - 1)
    left = target.detach().floor().long().clamp_(0, logits.size(1) - 2)
    share = (target - left).unsqueeze(1)
    log_probs = logits.log_softmax(dim=1)
    pair = log_probs.gather(1, torch.stack([left, left + 1], dim=1))
    return -((1 - share) * pair[:, :1] + share * pair[:, 1:]).squeeze(1)


def distribution_mean(logits: Tensor) -> Tensor:
    """Expectation of the values 0..n, shapes (..., n + 1) to (...)."""
    logits = at_least_float32(logits)
    values = torch.arange(logits.size(-1), dtype=logits.dtype, device=logits.device)
    # No matrix product: autocast would round it to half precision.
    return (logits.softmax(dim=-1) * values).sum(dim=-1)
