"""Weighting and reduction of per-row losses, with the host's semantics.

Shapes: N rows, C classes. A loss is (N,) or (N, C); a weight is (N,) or (N, C).
"""

import torch
from torch import Tensor

REDUCTIONS = ('none', 'mean', 'sum')


def check_reduction(reduction: str) -> str:
    """Return `reduction`, or raise ValueError when it is not a known one."""
    if reduction not in REDUCTIONS:
        raise ValueError(f'`reduction` must be one of {REDUCTIONS}, got {reduction!r}')
    return reduction


def hide_ignored_rows(logits: Tensor, weight: Tensor | None) -> Tensor:
    """Replace logits that weigh nothing by 0.

    A weight of 0 alone does not hide inf or nan: 0 * inf is nan, in the value and
    in the gradient. `masked_fill` has a zero gradient where it fills.

    Args:
        logits: shape (N, C) or (N, C + 1).
        weight: shape (N,), (N, C) or None.

    Returns:
        Logits of the same shape; the gradient of hidden entries is exactly 0.

    Raises:
        ValueError: `weight` has neither the rows nor the shape of the logits.
    """
    if weight is None:
        return logits
    if weight.shape not in (logits.shape, logits.shape[:1]):
        raise ValueError(
            f'`weight` must have shape {tuple(logits.shape[:1])} or '
            f'{tuple(logits.shape)}, got {tuple(weight.shape)}'
        )
    hidden = weight == 0
    if hidden.ndim == logits.ndim - 1:
        hidden = hidden.unsqueeze(-1)
    return logits.masked_fill(hidden, 0.0)


def weight_reduce(
    loss: Tensor,
    weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """Weight a loss and reduce it.

    Args:
        loss: shape (N,) or (N, C).
        weight: shape (N,) or the shape of `loss`; a row weight is broadcast.
        reduction: 'none', 'mean' or 'sum'.
        avg_factor: divisor of the summed loss in place of the number of elements;
            only with 'mean' ('none' has nothing to divide, as in the host).

    Returns:
        Scalar, or the shape of `loss` for 'none'.

    Raises:
        ValueError: unknown reduction, `avg_factor` with 'sum', or shapes that do
            not fit.
    """
    check_reduction(reduction)
    if weight is not None:
        if weight.ndim == loss.ndim - 1 and weight.shape == loss.shape[:-1]:
            weight = weight.unsqueeze(-1)
        elif weight.shape != loss.shape:
            raise ValueError(
                f'`weight` must have shape {tuple(loss.shape[:1])} or '
                f'{tuple(loss.shape)}, got {tuple(weight.shape)}'
            )
        loss = loss * weight
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        if avg_factor is not None:
            raise ValueError('`avg_factor` cannot be used with reduction="sum"')
        return loss.sum()
    if avg_factor is None:
        # The mean of nothing is a zero on the graph, not nan.
        return loss.sum() / max(loss.numel(), 1)
    # The host adds the same epsilon, so that an `avg_factor` of 0 gives 0.
    return loss.sum() / (avg_factor + torch.finfo(torch.float32).eps)
