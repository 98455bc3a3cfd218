"""Gradient harmonizing: weigh a term by the inverse density of its gradient norm.

Li et al., "Gradient Harmonized Single-stage Detector", AAAI 2019,
https://arxiv.org/abs/1811.05181, equations 3 to 12.

Shapes: N anchors or RoIs, C foreground classes, K bins of the gradient norm.
Deviations: the paper divides by all K bins, its authors' code by the bins that are
not empty; both are here, the authors' as the default (`normalize_by`).
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmdet_imbalance.core.blocks import row_blocks

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
    index = _bin_index(gradient_norm, valid, num_bins)
    count = _bin_count(index, num_bins).to(gradient_norm.dtype)
    # As an index, a byte would be taken for a mask.
    return index.int(), count


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
    logits = _as_float(logits)
    if valid is not None:
        logits = logits.masked_fill(~valid, 0.0)
    residual, count = classification_residual(logits, target, valid, num_bins)
    rows, weights = harmonized_cross_entropy(
        logits, target, valid, residual, bin_weights(count, normalize_by)
    )
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
    if mu <= 0:
        raise ValueError(f'`mu` must be positive, got {mu}')
    difference = _as_float(pred) - target
    if valid is not None:
        difference = difference.masked_fill(~valid, 0.0)
    index, count = gradient_bins(
        regression_gradient_norm(difference, mu), valid, num_bins
    )
    weights = bin_weights(count, normalize_by)[index]
    total = (authentic_smooth_l1(difference, mu) * weights).sum()
    return total / count.sum().clamp(min=1), weights


@torch.no_grad()
def classification_residual(
    logits: Tensor, target: Tensor, valid: Tensor | None, num_bins: int
) -> tuple[Tensor, Tensor]:
    """Gradient of binary cross-entropy, and how its norms fill the bins.

    Args:
        logits: shape (N, C).
        target: 0 or 1 (or bool), shape (N, C).
        valid: bool, shape (N, C) or (N, 1); None: all are valid.
        num_bins: number K of bins.

    Returns:
        `sigmoid(logits) - target`, shape (N, C); number of valid terms, shape (K,).
    """
    residual = torch.empty_like(logits)
    count = logits.new_zeros(num_bins, dtype=torch.float64)
    for rows in _blocks(logits):
        block = torch.sigmoid(logits[rows]).sub_(target[rows].to(logits.dtype))
        residual[rows] = block
        block_valid = None if valid is None else valid[rows]
        index = _bin_index(block.abs_(), block_valid, num_bins)
        count += _bin_count(index, num_bins)
    return residual, count.to(logits.dtype)


def harmonized_cross_entropy(
    logits: Tensor,
    target: Tensor,
    valid: Tensor | None,
    residual: Tensor,
    table: Tensor,
    keep_weights: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Binary cross-entropy, each term with the weight of its bin.

    Args:
        logits: shape (N, C).
        target: 0 or 1 (or bool), shape (N, C).
        valid: bool, shape (N, C) or (N, 1); None: all are valid.
        residual: `sigmoid(logits) - target`, shape (N, C); is overwritten.
        table: weight of each bin, shape (K + 1,), of `bin_weights`.
        keep_weights: whether to return the weights.

    Returns:
        Loss summed over the classes of each row, shape (N,); detached weights (N, C),
        or None.
    """
    with torch.no_grad():
        loss = logits.new_zeros(len(logits))
        weights = torch.empty_like(logits) if keep_weights else None
        for rows in _blocks(logits):
            block = residual[rows]
            block_valid = None if valid is None else valid[rows]
            index = _bin_index(block.abs(), block_valid, len(table) - 1)
            weight = table.index_select(0, index.flatten().int()).view_as(block)
            if weights is not None:
                weights[rows] = weight
            # Inputs of invalid terms are finite: the caller has seen to that.
            own = logits[rows] * target[rows].to(logits.dtype)
            term = F.softplus(logits[rows]).sub_(own)
            loss[rows] = term.mul_(weight).sum(dim=1)
            block.mul_(weight)
    return _KnownGradient.apply(logits, loss, residual), weights


class _KnownGradient(torch.autograd.Function):
    """A loss of rows whose gradient is at hand before the loss is.

    GHM needs `sigmoid(z) - y` to weigh the terms, so that the backward pass is one
    multiplication. The weights are constants; there is no second derivative.
    """

    @staticmethod
    def forward(logits: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        (gradient,) = ctx.saved_tensors
        return gradient * grad.unsqueeze(1), None, None


@torch.no_grad()
def regression_gradient_norm(difference: Tensor, mu: float) -> Tensor:
    """Norm `|d| / sqrt(d² + mu²)` of the gradient of authentic smooth L1."""
    return difference.abs() / torch.sqrt(difference.square() + mu * mu)


def authentic_smooth_l1(difference: Tensor, mu: float) -> Tensor:
    """Loss `sqrt(d² + mu²) - mu`, elementwise."""
    return torch.sqrt(difference.square() + mu * mu) - mu


def _blocks(logits: Tensor) -> Iterable[slice]:
    # In blocks that fit the cache the chain of a dozen steps takes two thirds of the
    # time; a compiler fuses the chain by itself.
    if torch.compiler.is_compiling():
        return [slice(None)]
    # A quarter of the block's size: four matrices of it are at work.
    return row_blocks(len(logits), 4 * logits.size(1), logits.device)


def _bin_index(norm: Tensor, valid: Tensor | None, num_bins: int) -> Tensor:
    # Bytes are made and counted in half the time of integers. Clamped from below too:
    # nan becomes any integer, and must reach the loss as nan.
    dtype = torch.uint8 if num_bins < 255 else torch.int32
    index = (norm * num_bins).to(dtype).clamp_(0, num_bins - 1)
    return index if valid is None else index.masked_fill_(~valid, num_bins)


def _bin_count(index: Tensor, num_bins: int) -> Tensor:
    if index.is_cuda or torch.compiler.is_compiling():
        # `bincount` waits for the device, and its output has no static shape.
        count = torch.histc(index.float(), num_bins + 1, min=0, max=num_bins + 1)
    else:
        count = index.flatten().bincount(minlength=num_bins + 1)
    return count[:num_bins]


def _as_float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


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
