"""Class-balanced loss: the weight of a row's class multiplies its whole loss.

Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
https://arxiv.org/abs/1901.05555, equations 10 to 12; the weights are those of
`core/class_weights.py`.

Shapes: N RoIs or anchors, C foreground classes (background is index C).

Deviations: a background row has a target of zeros in the binary losses and weighs 1.
"""

import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.label_sets import check_integers, check_labels
from mmdet_imbalance.core.multi_label_focal import multi_label_focal_loss

KINDS = ('softmax', 'sigmoid', 'focal')


def class_balanced_loss(
    logits: Tensor,
    labels: Tensor,
    class_weight: Tensor,
    kind: str,
    gamma: float = 2.0,
) -> Tensor:
    """Class-balanced softmax, sigmoid or focal loss of each row.

    Args:
        logits: (N, C + 1), background last, for 'softmax'; (N, C) for the others.
        labels: int (N,) in [0, C], background is C.
        class_weight: (C,), not negative; the background weighs 1.
        kind: 'softmax', 'sigmoid' or 'focal'.
        gamma: focusing exponent, for 'focal'. The paper uses 0.5 to 2.

    Returns:
        (N,), binary terms summed; float32 (float64 for float64 logits).
    """
    if kind not in KINDS:
        raise ValueError(f'`kind` must be one of {KINDS}, got {kind!r}')
    if class_weight.ndim != 1:
        raise ValueError(
            f'`class_weight` must have shape (C,), got {tuple(class_weight.shape)}'
        )
    num_classes = len(class_weight)
    channels = num_classes + (kind == 'softmax')
    if logits.ndim != 2 or logits.size(1) != channels:
        raise ValueError(
            f'`logits` must have shape (N, {channels}) for {num_classes} classes and '
            f'kind {kind!r}, got {tuple(logits.shape)}'
        )
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f'`labels` must have shape ({len(logits)},), got {tuple(labels.shape)}'
        )
    check_integers(labels)
    labels = labels.long()
    check_labels(labels, num_classes)
    logits = logits if logits.dtype.itemsize == 8 else logits.float()
    weight = F.pad(class_weight.to(logits.dtype), (0, 1), value=1.0)[labels]
    if kind == 'softmax':
        return weight * F.cross_entropy(logits, labels, reduction='none')
    gamma = gamma if kind == 'focal' else 0.0
    return weight * multi_label_focal_loss(logits, labels, gamma)
