"""Prime sample attention: importance of a sample from its hierarchical local rank.

Cao et al., "Prime Sample Attention in Object Detection", CVPR 2020,
https://arxiv.org/abs/1904.04821, sections 3 (HLR), 4.1 (ISR) and 4.2 (CARL).

Shapes: P positives or M negatives of the whole batch, C foreground classes.
Deviations: the rank of positives is taken over all images of the batch with ground
truths told apart (the host's version confuses them from three images on). `u = (n -
r) / n` takes n as the largest class of the batch (authors' code); the class's own
size is an option. Negatives are ranked within their image.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.precision import at_least_float32
from mmdet_imbalance.core.ranks import (
    group_max,
    group_size,
    rank_in_order,
    rank_within,
)

COUNTS = ('max', 'class')


def iou_hierarchical_weights(
    iou: Tensor,
    labels: Tensor,
    gt_ids: Tensor,
    gamma: float = 2.0,
    bias: float = 0.0,
    count: str = 'max',
) -> Tensor:
    """Importance of positives by IoU-HLR, before rescaling.

    Positives are ranked by IoU within their ground truth; then, within their class,
    by that local rank and by IoU where it is equal.

    Args:
        iou: IoU of the *decoded prediction* with its ground truth, shape (P,).
        labels: class of each positive, shape (P,).
        gt_ids: ground truth of each positive, unique over the batch, shape (P,).
        gamma: exponent. The paper uses 2.
        bias: importance at the last rank, before the exponent. The paper uses 0.
        count: n is the size of the largest class ('max') or of the own one ('class').

    Returns:
        Detached weights in [bias ** gamma, 1], shape (P,).

    Raises:
        ValueError: shapes differ, or unknown `count`.
    """
    for name, tensor in (('iou', iou), ('labels', labels), ('gt_ids', gt_ids)):
        if tensor.shape != (len(iou),):
            raise ValueError(
                f'`{name}` must have shape ({len(iou)},), got {tuple(tensor.shape)}'
            )
    if count not in COUNTS:
        raise ValueError(f'`count` must be one of {COUNTS}, got {count!r}')
    iou = at_least_float32(iou.detach())
    if not len(iou):
        return iou
    num = len(iou)
    position = torch.arange(num, device=iou.device)
    by_iou = iou.argsort(descending=True, stable=True)
    # A ground truth has one class: its number alone tells the group. `iou_rank` says
    # how many of all positives have a larger IoU.
    groups, iou_rank = gt_ids.index_select(0, by_iou).sort(stable=True)
    local_rank = position - torch.searchsorted(groups, groups)
    by_group = by_iou.index_select(0, iou_rank)
    # By class, then local rank, then IoU: one number each, all of them different.
    labels = labels.long()
    key = labels.index_select(0, by_group).mul_(num).add_(local_rank)
    order = by_group.index_select(0, key.mul_(num).add_(iou_rank).argsort())
    classes = labels.index_select(0, order)
    first = torch.searchsorted(classes, classes)
    rank = position - first
    if count == 'max':
        size = rank.max() + 1
    else:
        size = torch.searchsorted(classes, classes, right=True) - first
    importance = (size - rank).to(iou.dtype) / size
    weights = ((1 - bias) * importance + bias).pow_(gamma)
    return torch.empty_like(weights).index_copy_(0, order, weights)


def score_hierarchical_weights(
    scores: Tensor,
    boxes: Tensor,
    image_ids: Tensor,
    gamma: float = 0.5,
    bias: float = 0.0,
    score_thr: float = 0.05,
    iou_thr: float = 0.5,
) -> Tensor:
    """Importance of negatives by score-HLR (ISR-N), before rescaling.

    Negatives that overlap form a cluster (NMS-match: each joins the best-scored box
    that NMS keeps and that overlaps it). They are ranked by score within their
    cluster; then, within their image, by that local rank and by score. Negatives of
    a score up to `score_thr` share the last rank that is left.

    Args:
        scores: highest foreground score of each negative, shape (M,).
        boxes: decoded prediction of that class, in pixels, shape (M, 4).
        image_ids: image of each negative, shape (M,).
        gamma: exponent. The paper uses 0.5.
        bias: importance at the last rank, before the exponent.
        score_thr: lowest score, exclusive, of a negative that is ranked.
        iou_thr: IoU above which boxes join a cluster.

    Returns:
        Detached weights, shape (M,).

    Raises:
        ValueError: shapes differ.
    """
    if boxes.shape != (len(scores), 4) or image_ids.shape != scores.shape:
        raise ValueError(
            f'`boxes` and `image_ids` must have shapes ({len(scores)}, 4) and '
            f'({len(scores)},), got {tuple(boxes.shape)} and {tuple(image_ids.shape)}'
        )
    scores, boxes = at_least_float32(scores.detach()), at_least_float32(boxes.detach())
    ranked = scores > score_thr
    cluster = nms_match(
        boxes[ranked], scores[ranked], image_ids[ranked], iou_thr=iou_thr
    )
    local_rank = rank_within(-scores[ranked], cluster)
    size = group_size(image_ids)
    rank = size.new_zeros(len(scores))
    rank[ranked] = rank_within(-scores[ranked], image_ids[ranked], major=local_rank)
    last = group_max(image_ids, torch.where(ranked, rank, 0))
    rank = torch.where(ranked, rank, last)
    importance = (size - rank).to(scores.dtype) / size
    return ((1 - bias) * importance + bias).pow(gamma)


def carl_weights(scores: Tensor, k: float = 1.0, bias: float = 0.2) -> Tensor:
    """Weights of classification-aware regression; gradients flow into the scores.

    Args:
        scores: predicted probability of the own class, in [0, 1], shape (P,).
        k: exponent. The paper uses 1.
        bias: weight at score 0, before the exponent. The paper uses 0.2.

    Returns:
        Weights that sum to P, shape (P,).

    Raises:
        ValueError: `scores` is not one-dimensional, or `bias` outside [0, 1].
    """
    if scores.ndim != 1:
        raise ValueError(f'`scores` must have shape (P,), got {tuple(scores.shape)}')
    if not 0 <= bias <= 1:
        raise ValueError(f'`bias` must be in [0, 1], got {bias}')
    scores = at_least_float32(scores)
    scores = bias + (1 - bias) * scores
    if len(scores):
        # With bias 0 scores may be tiny or 0. In units of the largest neither the power
        # nor the sum underflows; where all are 0, nothing can be preferred to anything.
        top = scores.detach().amax()
        tiny = torch.finfo(scores.dtype).tiny
        scores = (scores / top.clamp(min=tiny)).where(top >= tiny, 1.0)
    weights = scores.pow(k)
    return weights * (len(scores) / weights.sum().clamp(min=1.0))


def preserve_total(weights: Tensor, loss: Tensor) -> Tensor:
    """Rescale weights so that the weighted sum of `loss` is what it was without them.

    Args:
        weights: shape (P,).
        loss: unreduced loss before weighting, not negative, shape (P,).

    Returns:
        Weights, shape (P,); unchanged where the loss is 0 everywhere.
    """
    loss = loss.detach()
    old, new = loss.sum(), (loss * weights).sum()
    # No gradient flows here, so a division by 0 that is not taken does no harm.
    return weights * torch.where(new > 0, old / new, 1.0)


def nms_match(
    boxes: Tensor, scores: Tensor, image_ids: Tensor, iou_thr: float
) -> Tensor:
    """Cluster of each box: the row of the box that suppresses it in greedy NMS.

    A box is kept when no *kept* box before it overlaps it. Iterated from "all are
    kept" this settles in as many steps as the longest chain of suppressions, with
    exactly the greedy result.

    Args:
        boxes: x1, y1, x2, y2 in pixels, shape (M, 4).
        scores: shape (M,).
        image_ids: boxes of different images never meet, shape (M,).
        iou_thr: IoU above which a box is suppressed.

    Returns:
        Row of the cluster's best box, shape (M,); kept boxes lead themselves.
    """
    if not len(boxes):
        return image_ids
    order = torch.argsort(scores, descending=True, stable=True)
    _, image, num_of_image = image_ids[order].unique(
        return_inverse=True, return_counts=True
    )
    # Images side by side, filled up with boxes without area, which meet no other.
    num = int(num_of_image.max())
    slot = image * num + rank_in_order(image)
    padded = boxes.new_zeros(len(num_of_image) * num, 4)
    padded[slot] = boxes[order]
    suppressed_by = overlaps(padded.view(-1, num, 4), iou_thr).tril(diagonal=-1)
    kept = torch.ones_like(suppressed_by[:, 0])
    while True:
        settled = ~(suppressed_by & kept[:, None]).any(dim=2)
        if torch.equal(settled, kept):
            break
        kept = settled
    itself = torch.eye(num, dtype=torch.bool, device=boxes.device)
    leads = (suppressed_by | itself) & kept[:, None]
    # The first leader in order of score is the one greedy NMS would name.
    leader = leads.to(torch.uint8).argmax(dim=2)  # (B, num)
    first = num * torch.arange(len(leader), device=boxes.device)
    leader_slot = (leader + first.unsqueeze(1)).flatten()[slot]
    row_of_slot = order.new_zeros(len(padded))
    row_of_slot[slot] = order
    cluster = torch.empty_like(order)
    cluster[order] = row_of_slot[leader_slot]
    return cluster


def overlaps(boxes: Tensor, iou_thr: float) -> Tensor:
    """Pairs of boxes of an image whose IoU is above `iou_thr`, (B, n, 4) to (B, n, n).

    Coordinate by coordinate and without a division: this is the cost of NMS-match.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=-1)

    def extent(low: Tensor, high: Tensor) -> Tensor:
        most = torch.minimum(high[:, :, None], high[:, None])
        return most.sub_(torch.maximum(low[:, :, None], low[:, None])).clamp_(min=0)

    inter = extent(x1, x2).mul_(extent(y1, y2))
    area = (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)
    # inter > thr * (a + b - inter)
    return inter.mul_(1 + iou_thr) > iou_thr * (area[:, :, None] + area[:, None])


def aligned_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of boxes in pairs, shapes (P, 4) and (P, 4) to (P,)."""
    width, height = (
        torch.minimum(boxes1[:, 2:], boxes2[:, 2:])
        .sub_(torch.maximum(boxes1[:, :2], boxes2[:, :2]))
        .clamp_(min=0)
        .unbind(dim=1)
    )
    inter = width * height
    both = torch.stack([boxes1, boxes2])
    area = (both[..., 2:] - both[..., :2]).clamp_(min=0).prod(dim=-1).sum(dim=0)
    return inter / area.sub_(inter).clamp_(min=torch.finfo(inter.dtype).eps)
