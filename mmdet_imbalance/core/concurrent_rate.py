"""Concurrent rates: how often classes hold together for one object.

Peng et al., "Large-Scale Object Detection in the Wild from Imbalanced Multi-Labels",
CVPR 2020, https://arxiv.org/abs/2005.08455, section 3.2: r_ij of concurrent softmax
(`core/concurrent_softmax.py`).

Shapes: C foreground classes (background is index C). r is (C, C), [i, j].

Deviations: the direction of r is not stated where we could read the paper; ours is
r_ij = P(j | i) and can be turned.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.precision import at_least_float32

DIRECTIONS = ('given_row', 'given_col')


def concurrent_rate(
    pair_count: Tensor, instance_count: Tensor, direction: str = 'given_row'
) -> Tensor:
    """How often an object of one class bears another as well.

    Args:
        pair_count: objects that bear both classes, (C, C); the diagonal is ignored.
        instance_count: objects that bear the class, (C,).
        direction: 'given_row': r[i, j] = n(i and j) / n(i), an object labelled i also
            bears j; 'given_col': r[i, j] = n(i and j) / n(j).

    Returns:
        (C, C) in [0, 1], zero diagonal; a class without objects gives 0.

    Raises:
        ValueError: shapes that do not fit, negative counts, more common objects than
            objects.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f'`direction` must be one of {DIRECTIONS}, got {direction!r}')
    pairs = torch.as_tensor(pair_count)
    dtype = torch.float64 if pairs.dtype == torch.float64 else torch.float32
    pairs = pairs.double()
    num = torch.as_tensor(instance_count, device=pairs.device).double()
    if num.ndim != 1 or pairs.shape != (len(num), len(num)):
        raise ValueError(
            '`pair_count` must have shape (C, C) and `instance_count` (C,), got '
            f'{tuple(pairs.shape)} and {tuple(num.shape)}'
        )
    divisor = num[:, None] if direction == 'given_row' else num[None, :]
    rate = torch.where(divisor > 0, pairs / divisor.clamp(min=1e-12), 0.0)
    rate = rate.fill_diagonal_(0.0)
    off_diagonal = pairs.clone().fill_diagonal_(0.0)
    bad = (
        ~((rate >= 0) & (rate <= 1))
        | (off_diagonal > 0) & (divisor <= 0)
        | ~(num >= 0)[:, None]
    )
    if bad.any():
        i, j = divmod(int(bad.flatten().int().argmax()), len(num))
        raise ValueError(
            '`pair_count` must be in [0, `instance_count`], got '
            f'{float(pairs[i, j]):g} '
            f'objects of both classes {i} and {j}, which have {float(num[i]):g} and '
            f'{float(num[j]):g} objects'
        )
    return rate.to(dtype)


def log_keep_matrix(rate: Tensor) -> Tensor:
    """log(1 - r) with zeros for diagonal and background, (C, C) to (C + 1, C + 1).

    Raises:
        ValueError: not a square matrix, or values outside [0, 1]. Looked at in eager
            mode only.
    """
    if rate.ndim != 2 or rate.size(0) != rate.size(1):
        raise ValueError(
            f'`concurrent_rate` must have shape (C, C), got {tuple(rate.shape)}'
        )
    rate = at_least_float32(rate)
    off_diagonal = ~torch.eye(len(rate), dtype=torch.bool, device=rate.device)
    rate = rate.where(off_diagonal, 0.0)
    if not torch.compiler.is_compiling():
        bad = ~((rate >= 0) & (rate <= 1))
        if bad.any():
            i, j = divmod(int(bad.flatten().int().argmax()), len(rate))
            raise ValueError(
                '`concurrent_rate` must be in [0, 1], got '
                f'{float(rate[i, j])} at [{i}, {j}]'
            )
    return F.pad(torch.log1p(-rate), (0, 1, 0, 1))


def is_tree_order(ancestors: Tensor) -> bool:
    """Whether any two ancestors of a class are ancestor and descendant.

    Args:
        ancestors: bool (C, C), [child, ancestor], reflexive.
    """
    together = ancestors.t().float() @ ancestors.float() > 0
    return not bool((together & ~(ancestors | ancestors.t())).any())
