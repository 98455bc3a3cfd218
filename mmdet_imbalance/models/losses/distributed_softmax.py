"""Softmax whose target is shared by the labels of a row, for stock heads.

The baseline of Peng et al., CVPR 2020, https://arxiv.org/abs/2005.08455; the equation
is in `core/distributed_softmax.py`.

Shapes: N RoIs or anchors, C foreground classes (background is index C).
Deviations: with a hierarchy, ancestors of a row's labels share the target and
descendants of its most specific labels take no part.
"""

from torch import Tensor

from mmdet_imbalance.core.distributed_softmax import distributed_softmax_terms
from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.multi_label import MultiLabelLoss
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class DistributedSoftmaxLoss(MultiLabelLoss):
    """Cross-entropy with a target of 1/k for each of the k labels of a row.

    Args:
        num_classes: number C of foreground classes.
        **kwargs: arguments of `MultiLabelLoss`. A class weight multiplies the term of
            its label.
    """

    weighs_terms = True

    def __init__(self, num_classes: int, **kwargs) -> None:
        super().__init__(num_classes, **kwargs)
        self.init_stats()

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Cross-entropy of each row, shape (N,)."""
        labels, pos_inds, sets = self.split_target(target)
        return distributed_softmax_terms(
            logits, labels, pos_inds, sets, self.ancestors, self.class_weight
        )

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax, shape (N, C + 1)."""
        return logits.softmax(dim=1)
