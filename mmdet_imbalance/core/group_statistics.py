"""Loss, accuracy and recall of positives by frequency group, all on the device.

What the loss curve of a long-tailed training hides: frequent classes make it.

Shapes: P positives, C foreground classes (background is index C), K groups. Deviations:
none (measures of our own).
"""

import torch
from torch import Tensor

#: Columns of the sums.
NAMES = ('positives', 'nll', 'acc', 'recall')


def group_sums(
    scores: Tensor, labels: Tensor, group: Tensor, num_groups: int
) -> Tensor:
    """Sums over the positives of each group.

    Args:
        scores: of the classes and, last, of the background, shape (P, C + 1); a
            detector without one has 0 there.
        labels: true class of each positive, shape (P,), values in [0, C).
        group: group of each class, shape (C,), values in [0, K).
        num_groups: number K of groups.

    Returns:
        Shape (K, 4), on the device of `scores`; columns as `NAMES`: number of
        positives; sum of the negative log scores of the true class; how often it has
        the best score of all classes; how often it also beats the background (0.5
        where the background has no score of its own).
    """
    num_classes = group.numel()
    own = scores.gather(1, labels[:, None]).squeeze(1)
    best = scores[:, :num_classes].argmax(dim=1) == labels
    background = scores[:, num_classes]
    # A sigmoid detector says "nothing" by saying less than one half.
    rival = torch.where(background > 0, background, torch.full_like(background, 0.5))
    nll = -own.clamp(min=1e-12).log()
    found = best & (own > rival)
    columns = torch.stack(
        [torch.ones_like(own), nll, best.to(own.dtype), found.to(own.dtype)], dim=1
    )
    sums = columns.new_zeros(num_groups, columns.size(1))
    return sums.index_add_(0, group[labels], columns)
