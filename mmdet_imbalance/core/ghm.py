"""Gradient harmonizing: weigh a term by the inverse density of its gradient norm.

Li et al., "Gradient Harmonized Single-stage Detector", AAAI 2019,
https://arxiv.org/abs/1811.05181, equations 3 to 12.

Shapes: N anchors or RoIs, C foreground classes, K bins of the gradient norm.
Deviations: the paper divides by all K bins, its authors' code by the bins that are
not empty; both are here, the authors' as the default (`normalize_by`).
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.harmonized_terms import (
    BinaryTarget,
    bin_count,
    bin_index,
    harmonized_cross_entropy,
    turn_and_count,
)
from mmdet_imbalance.core.precision import at_least_float32

NORMALIZERS = ('nonempty_bins', 'bins')


def gradient_bins(
    gradient_norm: Tensor, valid: Tensor | None, num_bins: int
) -> tuple[Tensor, Tensor]:
    """Bin of every term and number of valid terms in each bin.

    The bins have equal widths, so a multiplication finds them; `torch.bucketize`
    searches them and costs twenty times as much on a CPU.

    Args:
        gradient_norm: values in [0, 1], any shape; 1 belongs to the last bin.
        valid: bool, broadcastable to the same shape; None: all are valid.
        num_bins: number K of bins.

    Returns:
        int32 index of the bin, in the shape of `gradient_norm`, K where not valid;
        and the counts, shape (K,), in the dtype of `gradient_norm`.
    """
    index = bin_index(gradient_norm, valid, num_bins)
    count = bin_count(index, num_bins).to(gradient_norm.dtype)
    return index, count


def bin_weights(
    count: Tensor,
    normalize_by: str = 'nonempty_bins',
    density: Tensor | None = None,
) -> Tensor:
    """Weight `N / (M R_j)` of the terms of each bin, and 0 for those of no bin.

    Without smoothing, the weights of all terms sum to the number of valid terms under
    'nonempty_bins'.

    Args:
        count: number R_j of valid terms in each bin, shape (K,).
        normalize_by: M is the number of 'nonempty_bins' or of all 'bins'.
        density: smoothed counts that take the place of R_j, shape (K,).

    Returns:
        Shape (K + 1,); the last weight is that of terms that are not valid.
    """
    filled = count > 0
    num_bins = filled.sum() if normalize_by == 'nonempty_bins' else len(count)
    density = count if density is None else density
    table = torch.where(
        filled, count.sum() / (num_bins * density.where(filled, 1.0)), 0.0
    )
    return torch.cat([table, table.new_zeros(1)])


def ghm_c_loss(
    logits: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    num_bins: int = 30,
    normalize_by: str = 'nonempty_bins',
) -> tuple[Tensor, Tensor]:
    """GHM-C: binary cross-entropy, harmonised over `|sigmoid(z) - y|`.

    Args:
        logits: shape (N, C).
        target: 0 or 1, several 1 in a row allowed, shape (N, C).
        valid: bool, shape (N, C); terms that are not valid are invisible, also with
            inf or nan logits. None: all are valid.
        num_bins: number of bins. The paper uses 30.
        normalize_by: 'nonempty_bins' (authors' code) or 'bins' (paper).

    Returns:
        The loss, a scalar: weighted sum over the number of valid terms; and the
        detached weights, shape (N, C).

    Raises:
        ValueError: shapes differ, or unknown `normalize_by`.
    """
    _check(logits, target, valid, num_bins, normalize_by)
    form = BinaryTarget(dense=target)
    logits = at_least_float32(logits)
    turned, count = turn_and_count(logits, form, valid, num_bins)
    table = bin_weights(count, normalize_by)
    rows, weights = harmonized_cross_entropy(logits, turned, form, table, True)
    if valid is not None:
        weights.masked_fill_(~valid, 0.0)
    return rows.sum() / count.sum().clamp(min=1), weights


def ghm_r_loss(
    pred: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    mu: float = 0.02,
    num_bins: int = 10,
    normalize_by: str = 'nonempty_bins',
) -> tuple[Tensor, Tensor]:
    """GHM-R: authentic smooth L1, harmonised over its gradient norm.

    Args:
        pred: encoded boxes, shape (N, 4).
        target: shape (N, 4).
        valid: bool, shape (N, 4); None: all are valid.
        mu: half-width of the quadratic part, in units of `pred`. The paper uses 0.02.
        num_bins: number of bins. The authors use 10.
        normalize_by: 'nonempty_bins' (authors' code) or 'bins' (paper).

    Returns:
        The loss, a scalar: weighted sum over the number of valid coordinates; and
        the detached weights, shape (N, 4).

    Raises:
        ValueError: shapes differ, unknown `normalize_by`, or `mu` is not positive.
    """
    _check(pred, target, valid, num_bins, normalize_by)
    if not mu > 0:
        raise ValueError(f'`mu` must be positive, got {mu}')
    difference = at_least_float32(pred) - target
    if valid is not None:
        difference = difference.masked_fill(~valid, 0.0)
    index, count = gradient_bins(
        regression_gradient_norm(difference, mu), valid, num_bins
    )
    weights = bin_weights(count, normalize_by)[index]
    total = (authentic_smooth_l1(difference, mu) * weights).sum()
    return total / count.sum().clamp(min=1), weights


@torch.no_grad()
def regression_gradient_norm(difference: Tensor, mu: float) -> Tensor:
    """Norm `|d| / sqrt(d² + mu²)` of the gradient of authentic smooth L1."""
    return difference.abs() / torch.sqrt(difference.square() + mu * mu)


def authentic_smooth_l1(difference: Tensor, mu: float) -> Tensor:
    """Loss `sqrt(d² + mu²) - mu`, elementwise."""
    return torch.sqrt(difference.square() + mu * mu) - mu


def _check(
    pred: Tensor,
    target: Tensor,
    valid: Tensor | None,
    num_bins: int,
    normalize_by: str,
) -> None:
    if target.shape != pred.shape:
        raise ValueError(
            f'`target` must have the shape {tuple(pred.shape)} of the prediction, '
            f'got {tuple(target.shape)}'
        )
    if valid is not None and (valid.dtype != torch.bool or valid.shape != pred.shape):
        raise ValueError(
            f'`valid` must be bool of shape {tuple(pred.shape)}, got {valid.dtype} '
            f'of shape {tuple(valid.shape)}'
        )
    if num_bins < 1:
        raise ValueError(f'`num_bins` must be at least 1, got {num_bins}')
    if normalize_by not in NORMALIZERS:
        raise ValueError(
            f'`normalize_by` must be one of {NORMALIZERS}, got {normalize_by!r}'
        )
