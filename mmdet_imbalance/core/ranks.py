"""Ranks, sizes and maxima within groups of rows, without a loop over the groups.

Shapes: P rows. Deviations: none, this is plumbing.
"""

import torch
from torch import Tensor


def rank_within(
    key: Tensor, group: Tensor | None = None, major: Tensor | None = None
) -> Tensor:
    """Rank of each row within its group: 0 for the smallest key.

    Args:
        key: shape (P,).
        group: integers; rows with equal values share a group, (P,). None: all do.
        major: sorted by before `key`, shape (P,).

    Returns:
        Ranks from 0, shape (P,), int64; equal keys in order of the rows.
    """
    order = key.argsort(stable=True)
    if major is not None:
        order = order[major[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    if group is None:
        rank[order] = torch.arange(len(key), device=key.device)
    else:
        rank[order] = rank_in_order(group[order])
    return rank


def rank_in_order(group: Tensor) -> Tensor:
    """How many rows of the same group come before each row, shape (P,), int64."""
    order = group.argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = rank_in_sorted(group[order])
    return rank


def rank_in_sorted(group: Tensor) -> Tensor:
    """The same where rows of a group stand together, groups rising."""
    position = torch.arange(len(group), device=group.device)
    return position - torch.searchsorted(group, group)


def group_size(group: Tensor) -> Tensor:
    """Number of rows in the group of each row, shape (P,), int64."""
    ordered = group.sort().values
    right = torch.searchsorted(ordered, group, right=True)
    return right - torch.searchsorted(ordered, group)


def group_max(group: Tensor, value: Tensor) -> Tensor:
    """Largest value in the group of each row, shape (P,)."""
    _, index = group.unique(return_inverse=True)
    largest = value.new_zeros(len(group)).scatter_reduce(
        0, index, value, 'amax', include_self=False
    )
    return largest[index]
