"""Softmax cross-entropy whose target is shared by the labels of a row.

The baseline of Peng et al., CVPR 2020, https://arxiv.org/abs/2005.08455, section 3.2:
each of the k labels has the target 1/k, so that no label's probability can exceed it.

    L = - 1/k sum_{i: y_i = 1} log softmax(z)_i

Shapes: N RoIs or anchors, C foreground classes (background is index C).
Deviations: with a hierarchy, the descendants of a row's labels take no part.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.closed_gradient import with_closed_gradient
from mmdet_imbalance.core.label_sets import label_pairs


def distributed_softmax_terms(
    logits: Tensor,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    ancestors: Tensor | None,
    class_weight: Tensor | None,
) -> Tensor:
    """The loss for every form of target, (N,); arguments are not checked.

    Args:
        logits: (N, C + 1), float32 or float64.
        labels: (N,); looked at without `label_sets` only.
        pos_inds: rows of `label_sets`, (P,); None where these are all rows.
        label_sets: bool (P, C), or None.
        ancestors: bool (C, C), [child, ancestor], reflexive: ancestors of a label
            become labels, its descendants are ignored.
        class_weight: weight of each term, (C + 1,).
    """
    if label_sets is None and ancestors is None:
        loss = F.cross_entropy(logits, labels, reduction='none')
        return loss if class_weight is None else loss * class_weight[labels]
    return _shared_rows(logits, labels, pos_inds, label_sets, ancestors, class_weight)[
        0
    ]


# The number of labels depends on the data, which a compiler cannot trace.
@with_closed_gradient('mmdet_imbalance::distributed_softmax')
def _shared_rows(
    logits: Tensor,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    ancestors: Tensor | None,
    class_weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Loss (N,) and its gradient (N, C + 1)."""
    num_rows, num_classes = len(logits), logits.size(1) - 1
    pairs = label_pairs(labels, num_classes, pos_inds, label_sets, ancestors)
    # Background rows are pairs too, with the one label C.
    is_bg = torch.ones(num_rows, dtype=torch.bool, device=logits.device)
    bg_rows = is_bg.index_fill_(0, pairs.pos_rows, False).nonzero().squeeze(1)
    rows = torch.cat([pairs.rows, bg_rows])
    classes = torch.cat([pairs.classes, torch.full_like(bg_rows, num_classes)])
    share = 1.0 / pairs.num_labels[pairs.owner].to(logits.dtype)
    share = torch.cat([share, share.new_ones(len(bg_rows))])
    if class_weight is not None:
        share = share * class_weight.to(logits.dtype)[classes]
    if pairs.ignored is not None:
        owner, ignored = pairs.ignored.nonzero(as_tuple=True)
        logits = logits.clone()
        logits[pairs.pos_rows[owner], ignored] = -torch.inf
    grad = F.log_softmax(logits, dim=1)
    term = -grad[rows, classes] * share
    loss = logits.new_zeros(num_rows).index_add_(0, rows, term)
    total = logits.new_zeros(num_rows).index_add_(0, rows, share)
    grad.exp_().mul_(total[:, None])
    grad[rows, classes] -= share
    return loss, grad
