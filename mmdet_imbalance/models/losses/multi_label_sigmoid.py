"""Sigmoid baselines on label sets, and what the class-balanced ones stand on.

The baselines of Peng et al., CVPR 2020, https://arxiv.org/abs/2005.08455; the focal
loss is Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002. The equations are in
`core/multi_label_focal.py`.

Shapes: N RoIs or anchors, C foreground classes (background is index C).
Deviations: with a hierarchy, ancestors of a row's labels are positives and descendants
of its most specific labels are neither positive nor negative.
"""

from torch import Tensor

from mmdet_imbalance.core.multi_label_focal import check_focal_arguments, focal_terms
from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.sigmoid_label_sets import SigmoidLabelSetLoss
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class MultiLabelFocalLoss(SigmoidLabelSetLoss):
    """Focal loss on the labels of a row.

    Dense heads read `use_sigmoid=True` from the config to set their channels.

    Args:
        num_classes: number C of foreground classes.
        gamma: focusing exponent. The paper uses 2.
        alpha: weight of positive terms, 1 - alpha of the others; None weighs both 1.
            The paper uses 0.25.
        **kwargs: arguments of `MultiLabelLoss`. A class weight multiplies all terms of
            a row: that of its most specific label, the mean where it has several.
    """

    weighs_terms = True

    def __init__(
        self,
        num_classes: int,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        check_focal_arguments(gamma, alpha)
        self.gamma = gamma
        self.alpha = alpha
        self.init_stats()

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Focal loss of each row, summed over the classes, shape (N,)."""
        labels, pos_inds, sets = self.split_target(target)
        return focal_terms(
            logits,
            labels,
            pos_inds,
            sets,
            None,
            self.ancestors,
            self.class_weight,
            self.gamma,
            self.alpha,
        )

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return f'{super().extra_repr()}, gamma={self.gamma}, alpha={self.alpha}'


@MODELS.register_module()
class MultiLabelSigmoidLoss(MultiLabelFocalLoss):
    """Binary cross-entropy on the labels of a row.

    Args:
        num_classes: number C of foreground classes.
        **kwargs: arguments of `MultiLabelLoss`.
    """

    def __init__(self, num_classes: int, **kwargs) -> None:
        for name in {'gamma', 'alpha'} & set(kwargs):
            raise TypeError(f'MultiLabelSigmoidLoss has no `{name}`')
        super().__init__(num_classes, gamma=0.0, alpha=None, **kwargs)
