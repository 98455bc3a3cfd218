"""Quality focal loss and distribution focal loss for stock heads.

Li et al., "Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes
for Dense Object Detection", NeurIPS 2020, https://arxiv.org/abs/2006.04388; the
equations are in `core/gfl.py`.

Shapes: N anchors or RoIs, P positives among them, C foreground classes (background is
index C), n + 1 values 0..n of a distribution, four of them a box.

Deviations: several labels a row, ancestors included, each with the quality of the row;
where there is a hierarchy, the descendants of a row's most specific labels are no
terms. Class weights as in every loss of the package.
"""

from torch import Tensor, nn

from mmdet_imbalance.core.gfl import distribution_focal_loss, quality_focal_terms
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.core.reduction import (
    check_reduction,
    hide_ignored_rows,
    weight_reduce,
)
from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.sigmoid_label_sets import SigmoidLabelSetLoss
from mmdet_imbalance.models.regions import Regions
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class QualityFocalLoss(SigmoidLabelSetLoss):
    """Sigmoid classification whose score is the quality of the box.

    The heads of the package, and the host's GFL and ATSS-style heads, hand over
    `(labels, quality)`, where `quality` is the IoU of the predicted box. Any target
    without a quality is taken as of quality 1.

    Args:
        num_classes: number C of foreground classes.
        beta: exponent of the gap between quality and score; the paper uses 2.
        **kwargs: arguments of `MultiLabelLoss`.
    """

    target_kind = 'quality'

    def __init__(self, num_classes: int, beta: float = 2.0, **kwargs) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        if not beta >= 0:
            raise ValueError(f'`beta` must not be negative, got {beta}')
        self.beta = beta
        self.init_stats()

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Loss summed over the classes of each row, shape (N,)."""
        target, quality = _split_quality(target)
        labels, pos_inds, sets = self.split_target(target)
        return quality_focal_terms(
            logits, labels, pos_inds, sets, quality, None, self.ancestors, self.beta
        )

    def check_target(
        self, target: Target, num_rows: int, weight: Tensor | None
    ) -> Target:
        """Check lengths, labels and the quality, which is 0 in ignored rows."""
        target, quality = _split_quality(target)
        target = super().check_target(target, num_rows, weight)
        if quality is None:
            return target
        if quality.shape != (num_rows,):
            raise ValueError(
                f'`quality` must have shape ({num_rows},), got {tuple(quality.shape)}'
            )
        if weight is not None:
            quality = quality.masked_fill(weight == 0, 0.0)
        return target, quality

    def row_class_weight(self, target: Target) -> Tensor:
        """Class weight of each row, shape (N,); the quality has no say."""
        return super().row_class_weight(_split_quality(target)[0])

    def get_accuracy(self, cls_score: Tensor, labels: Target) -> dict[str, Tensor]:
        """Top-1 accuracy over foreground rows, in percent."""
        return super().get_accuracy(cls_score, _split_quality(labels)[0])

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return f'{super().extra_repr()}, beta={self.beta}'


@MODELS.register_module()
class DistributionFocalLoss(nn.Module):
    """Cross-entropy with the two values around each side of the target box.

    A loss on `(logits, target)`, as the host's GFL head calls it; and an extra loss of
    `ImbalanceRoIHead` and `ImbalanceRetinaHead` whose box coder is a
    `DistributionBBoxCoder`.

    Args:
        weight_by_score: as an extra loss, weigh positives by their detached best
            score, normalised to a mean of 1, as in the paper.
        loss_weight: factor of the whole term; the paper uses 0.25.
        reduction: 'none', 'mean' or 'sum'.
    """

    #: Name in the log of an extra loss.
    loss_name = 'loss_dfl'

    def __init__(
        self,
        weight_by_score: bool = True,
        loss_weight: float = 0.25,
        reduction: str = 'mean',
    ) -> None:
        super().__init__()
        self.weight_by_score = weight_by_score
        self.loss_weight = loss_weight
        self.reduction = check_reduction(reduction)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Loss of a minibatch of distributions.

        Args:
            pred: logits of the values 0..n, shape (N, n + 1).
            target: shape (N,), values in [0, n].
            weight: shape (N,); rows of weight 0 are invisible.
            avg_factor: divisor of the summed loss.
            reduction_override: reduction for this call.

        Returns:
            Scalar, or (N,) with reduction 'none'.
        """
        reduction = check_reduction(reduction_override or self.reduction)
        if weight is not None:
            pred = hide_ignored_rows(pred, weight)
            target = target.masked_fill(weight == 0, 0.0)
        loss = distribution_focal_loss(pred, target)
        return self.loss_weight * weight_reduce(loss, weight, reduction, avg_factor)

    def check_head(self, loss_cls: nn.Module, loss_bbox: nn.Module, coder) -> None:
        """Raise ValueError where the head's regression predicts no distributions."""
        if not hasattr(coder, 'distributions'):
            raise ValueError(
                'DistributionFocalLoss needs a head that predicts distributions: set '
                "bbox_coder=dict(type='mmdet_imbalance.DistributionBBoxCoder', ...) "
                f'and reg_decoded_bbox=True; its coder is {type(coder).__name__}'
            )

    def region_loss(self, regions: Regions, avg_factor: float | Tensor) -> Tensor:
        """Loss of the positives: the mean over four sides, summed over `avg_factor`."""
        coder = regions.bbox_coder
        logits = coder.distributions(regions.pos_encoded)  # (P, 4, n + 1)
        target = coder.targets(regions.pos_priors, regions.pos_gt_boxes)  # (P, 4)
        loss = distribution_focal_loss(logits.flatten(0, 1), target.flatten())
        loss = loss.view(-1, 4).mean(dim=1)
        weight = regions.score_weights() if self.weight_by_score else None
        return self.loss_weight * weight_reduce(loss, weight, 'mean', avg_factor)

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return (
            f'weight_by_score={self.weight_by_score}, '
            f'loss_weight={self.loss_weight}, reduction={self.reduction!r}'
        )


def _split_quality(target: Target) -> tuple[Target, Tensor | None]:
    if isinstance(target, tuple) and not isinstance(target, MultiLabelTarget):
        if len(target) != 2:
            raise ValueError(
                'a quality target is the pair (labels, quality), got '
                f'{len(target)} values'
            )
        return target
    return target, None
