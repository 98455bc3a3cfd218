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
import torch.nn.functional as F
from torch import Tensor


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
            background.
        beta: exponent of the gap. The paper uses 2; 0 gives binary cross-entropy.
        valid: bool, shape (N, C); terms that are not valid count nothing.

    Returns:
        Loss summed over classes, shape (N,).

    Raises:
        ValueError: shapes do not fit.
    """
    num, num_classes = logits.shape
    if quality.shape != (num,) or labels.shape not in ((num,), (num, num_classes)):
        raise ValueError(
            f'`labels` must have shape ({num},) or ({num}, {num_classes}) and '
            f'`quality` ({num},), got {tuple(labels.shape)} and '
            f'{tuple(quality.shape)}'
        )
    logits = logits if logits.dtype == torch.float64 else logits.float()
    quality = quality.to(logits.dtype).unsqueeze(1)
    if labels.ndim == 1:
        labels = labels.unsqueeze(1)
        classes = torch.arange(num_classes, device=logits.device)
        target = torch.where(labels == classes, quality, 0.0)
    else:
        target = torch.where(labels > 0, quality, 0.0)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    if beta:
        # |x|^beta has no usable gradient at 0 for beta < 1 and beta = 0.
        loss = loss * (target - logits.sigmoid()).abs().pow(beta)
    if valid is not None:
        loss = loss.masked_fill(~valid, 0.0)
    return loss.sum(dim=1)


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with the two integers around a real-valued target.

    Args:
        logits: of the values 0..n, shape (N, n + 1).
        target: shape (N,), values in [0, n].

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
    logits = logits if logits.dtype == torch.float64 else logits.float()
    target = target.to(logits.dtype)
    left = target.detach().floor().long().clamp_(0, logits.size(1) - 2)
    share = (target - left).unsqueeze(1)
    log_probs = logits.log_softmax(dim=1)
    pair = log_probs.gather(1, torch.stack([left, left + 1], dim=1))
    return -((1 - share) * pair[:, :1] + share * pair[:, 1:]).squeeze(1)


def distribution_mean(logits: Tensor) -> Tensor:
    """Expectation of the values 0..n, shapes (..., n + 1) to (...)."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    values = torch.arange(logits.size(-1), dtype=logits.dtype, device=logits.device)
    # No matrix product: autocast would round it to half precision.
    return (logits.softmax(dim=-1) * values).sum(dim=-1)
