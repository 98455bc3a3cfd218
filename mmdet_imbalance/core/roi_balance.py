"""Which of many positives or negatives a minibatch takes: probabilities and choices.

Online foreground balance (OFB): Oksuz et al., "Generating Positive Bounding Boxes for
Balanced Training of Object Detectors", WACV 2020, https://arxiv.org/abs/1909.09777:
`p_i = 1 / (K n_c(i))`, K classes among the positives, n_c positives of class c.
IoU balance: Pang et al., "Libra R-CNN", CVPR 2019, https://arxiv.org/abs/1904.02701:
`p_k = N / K * 1 / M_k`, K intervals of IoU, M_k negatives in interval k, N wanted.

Shapes: P candidates (positives or negatives of an image or a batch).
Deviations: none.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.ranks import rank_in_order


def foreground_balanced_probs(labels: Tensor) -> Tensor:
    """Probability of each positive, the same sum for each class that is present.

    Args:
        labels: class of each positive, shape (P,).

    Returns:
        Probabilities that sum to 1, shape (P,), float64.
    """
    if labels.ndim != 1:
        raise ValueError(f'`labels` must have shape (P,), got {tuple(labels.shape)}')
    _, class_of, num_of_class = labels.unique(return_inverse=True, return_counts=True)
    return 1.0 / (num_of_class.numel() * num_of_class[class_of].double())


def choose_by_probs(
    probs: Tensor,
    num: int,
    generator: torch.Generator,
    groups: Tensor | None = None,
    max_per_group: int | None = None,
) -> Tensor:
    """Draw without replacement, one after the other by the probabilities that are left.

    Args:
        probs: shape (P,), positive; need not sum to 1.
        num: how many to draw; all of them where there are no more.
        generator: owner of the randomness, on the device of `probs`.
        groups: group of each candidate, shape (P,).
        max_per_group: a group that has given so many gives no more.

    Returns:
        Positions in the order in which they were drawn, shape (min(num, P),) or fewer
        where groups are exhausted.
    """
    # The order of probs / exponential noise is that of successive draws (Gumbel's
    # trick), and unlike torch.multinomial it knows no limit of 2^24 candidates.
    noise = torch.empty_like(probs, dtype=torch.float64)
    noise.exponential_(generator=generator)
    order = (probs.double() / noise).argsort(descending=True)
    if groups is not None and max_per_group is not None:
        order = order[rank_in_order(groups[order]) < max_per_group]
    return order[:num]


def choose_equal_shares(groups: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Draw the same number from each group, as far as they have as many.

    What a small group cannot give is shared by the others, so that exactly `num` are
    drawn; where they do not divide evenly, chance decides which groups give one more.

    Args:
        groups: group of each candidate, shape (P,).
        num: how many to draw; all of them where there are no more.
        generator: owner of the randomness, on the device of `groups`.

    Returns:
        Positions, shape (min(num, P),).
    """
    shuffled = torch.randperm(len(groups), generator=generator, device=groups.device)
    # Turn by turn: first one of each group, then the second of each, ...  A stable sort
    # keeps the random order within a turn.
    turn = rank_in_order(groups[shuffled])
    return shuffled[turn.argsort(stable=True)[:num]]


def iou_interval(iou: Tensor, num_bins: int, max_iou: float) -> Tensor:
    """Number of the IoU interval, of `num_bins` equal ones in [0, max_iou], shape (P,).

    Higher IoU counts to the last interval.
    """
    return (iou * (num_bins / max_iou)).long().clamp(0, num_bins - 1)
