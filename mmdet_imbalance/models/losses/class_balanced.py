"""Class-balanced losses for stock heads.

Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
https://arxiv.org/abs/1901.05555; the equations are in `core/class_balanced.py`, the
weights in `core/class_weights.py`.

For the sigmoid and the focal loss the paper starts the last layer's bias at
-log(C - 1) and exempts it from weight decay: `PriorBiasLinear` in a box head,
`bias_prob` in the `init_cfg` of a dense head, and `paramwise_cfg` (see
`configs/class_balanced`).

Shapes: N RoIs or anchors, C foreground classes (background is index C).

Deviations, because the paper classifies images: counts are of objects, the background
weighs 1 (which is what an object weighs on average with `normalize='object'`), and with
a hierarchy the ancestors of a label are positives while the row weighs as its most
specific label.
"""

import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.models.losses.base import (
    ClassificationLoss,
    Target,
    primary_labels,
)
from mmdet_imbalance.models.losses.multi_label_sigmoid import MultiLabelFocalLoss
from mmdet_imbalance.registry import MODELS

DEFAULT_BETA = 0.999


def _effective_num(beta: float | None, class_weight):
    """The rule of the paper, or the `class_weight` that stands in its place."""
    if class_weight is None:
        return dict(type='effective_num', beta=DEFAULT_BETA if beta is None else beta)
    if beta is not None:
        raise ValueError(
            '`beta` and `class_weight` exclude each other: write '
            f"class_weight=dict(type='effective_num', beta={beta}, …)"
        )
    return class_weight


@MODELS.register_module()
class ClassBalancedSoftmaxLoss(ClassificationLoss):
    """Softmax cross-entropy weighted by the effective number of the row's class.

    Args:
        num_classes: number C of foreground classes.
        beta: of the effective number, in [0, 1); 0.999 unless given. The paper uses
            0.999 or 0.9999.
        class_weight: another rule or a list in place of `beta`, such as
            `dict(type='effective_num', beta=0.99, normalize='object')`.
        **kwargs: arguments of `ClassificationLoss`.
    """

    def __init__(
        self, num_classes: int, beta: float | None = None, class_weight=None, **kwargs
    ) -> None:
        class_weight = _effective_num(beta, class_weight)
        super().__init__(num_classes, class_weight=class_weight, **kwargs)

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Cross-entropy of each row before its class weight, shape (N,)."""
        labels = primary_labels(target, self.num_classes)
        return F.cross_entropy(logits, labels, reduction='none')

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax, shape (N, C + 1)."""
        return logits.softmax(dim=1)


@MODELS.register_module()
class ClassBalancedFocalLoss(MultiLabelFocalLoss):
    """Focal loss, without alpha, all C terms weighted by the row's class.

    Args:
        num_classes: number C of foreground classes.
        beta: as in `ClassBalancedSoftmaxLoss`.
        gamma: focusing exponent; the paper uses 0.5 to 2.
        class_weight: as in `ClassBalancedSoftmaxLoss`.
        **kwargs: arguments of `MultiLabelLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        beta: float | None = None,
        gamma: float = 2.0,
        class_weight=None,
        **kwargs,
    ) -> None:
        super().__init__(
            num_classes,
            gamma=gamma,
            alpha=None,
            class_weight=_effective_num(beta, class_weight),
            **kwargs,
        )


@MODELS.register_module()
class ClassBalancedSigmoidLoss(ClassBalancedFocalLoss):
    """Sigmoid cross-entropy, all C terms weighted by the row's class.

    Args:
        num_classes: number C of foreground classes.
        beta: as in `ClassBalancedSoftmaxLoss`.
        class_weight: as in `ClassBalancedSoftmaxLoss`.
        **kwargs: arguments of `MultiLabelLoss`.
    """

    def __init__(
        self, num_classes: int, beta: float | None = None, class_weight=None, **kwargs
    ) -> None:
        if 'gamma' in kwargs:
            raise TypeError('ClassBalancedSigmoidLoss has no `gamma`')
        super().__init__(
            num_classes, beta=beta, gamma=0.0, class_weight=class_weight, **kwargs
        )
