"""Boxes as four distributions, in any head that asks its coder for `encode_size`.

Li et al., "Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes
for Dense Object Detection", NeurIPS 2020, https://arxiv.org/abs/2006.04388, section
3.2: a regressed number is the expectation of a distribution over n + 1 values.

Shapes: N priors, n + 1 values of a distribution, four distributions a box: E = 4 (n +
1) channels.
Deviations: the paper regresses the distances to the four sides, in strides. Here the
numbers are those of any coder: deltas, so that stock anchors keep their meaning, or
distances in units of the prior's size (eight strides for the paper's one anchor, so its
0..16 strides are 0..2 here).
"""

from collections.abc import Sequence

import torch
from mmdet.models.task_modules.coders import BaseBBoxCoder
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from mmdet_imbalance.core.gfl import distribution_mean
from mmdet_imbalance.registry import TASK_UTILS


@TASK_UTILS.register_module()
class DistributionBBoxCoder(BaseBBoxCoder):
    """Predicts each of a coder's four numbers by a distribution.

    The head needs `reg_decoded_bbox=True`: its regression loss (GIoU in the paper)
    works on decoded boxes, and `DistributionFocalLoss` as an extra loss on the
    distributions.

    Args:
        coder: config of the coder whose numbers are predicted.
        reg_max: n, number of values less one; the paper uses 16.
        value_range: lowest and highest number that can be predicted, in units of
            `coder`: one pair, or one for each of the four numbers. None: one size of
            the prior, and a factor e in size, to either side for deltas; 0 to 2 sizes
            for distances.
    """

    def __init__(
        self,
        coder: dict | None = None,
        reg_max: int = 16,
        value_range: Sequence | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if reg_max < 1:
            raise ValueError(f'`reg_max` must be at least 1, got {reg_max}')
        self.coder = TASK_UTILS.build(coder or dict(type='DeltaXYWHBBoxCoder'))
        self.reg_max = reg_max
        self.low, self.high = self._limits(value_range)
        self.encode_size = 4 * (reg_max + 1)

    def encode(self, bboxes, gt_bboxes) -> Tensor:
        """A number cannot be encoded as one distribution; raises ValueError."""
        raise ValueError(
            'DistributionBBoxCoder has no encoded target: set reg_decoded_bbox=True '
            'and a loss on decoded boxes, such as GIoULoss, in the head'
        )

    def decode(self, bboxes, pred_bboxes: Tensor, max_shape=None, **kwargs):
        """Boxes of expectations.

        Args:
            bboxes: priors in pixels, shape (N, 4).
            pred_bboxes: logits, shape (N, E) or (N, C * E).
            max_shape: height and width to clip to, in pixels.
            **kwargs: further arguments of the inner coder's `decode`.

        Returns:
            Boxes in pixels, shape (N, 4) or (N, C * 4).
        """
        deltas = self.deltas(pred_bboxes.reshape(-1, self.encode_size))
        deltas = deltas.reshape(
            pred_bboxes.size(0), pred_bboxes.size(1) // (self.reg_max + 1)
        )
        return self.coder.decode(bboxes, deltas, max_shape=max_shape, **kwargs)

    def distributions(self, encoded: Tensor) -> Tensor:
        """Logits by side and value, shapes (P, E) to (P, 4, n + 1)."""
        return encoded.reshape(-1, 4, self.reg_max + 1)

    def deltas(self, encoded: Tensor) -> Tensor:
        """Expected numbers of the inner coder, shapes (P, E) to (P, 4)."""
        mean = distribution_mean(self.distributions(encoded))
        low, high = mean.new_tensor(self.low), mean.new_tensor(self.high)
        return low + mean * ((high - low) / self.reg_max)

    def targets(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Targets of the distributions, in [0, n - 0.1], shape (P, 4).

        Args:
            bboxes: priors in pixels, shape (P, 4).
            gt_bboxes: ground truths in pixels, shape (P, 4).
        """
        numbers = self.coder.encode(bboxes, gt_bboxes)
        low, high = numbers.new_tensor(self.low), numbers.new_tensor(self.high)
        # The paper's clamp: the value to the right must exist.
        scaled = (numbers - low) * (self.reg_max / (high - low))
        return scaled.clamp(0, self.reg_max - 0.1)

    def _limits(self, value_range: Sequence | None) -> tuple[list, list]:
        if value_range is None:
            value_range = getattr(self.coder, 'value_range', None)
        if value_range is None:
            if not hasattr(self.coder, 'stds'):
                raise ValueError(
                    f'`value_range` is needed for {type(self.coder).__name__}: the '
                    'lowest and the highest number it shall predict'
                )
            pairs = list(zip(self.coder.means, self.coder.stds, strict=True))
            return (
                [(-1.0 - mean) / std for mean, std in pairs],
                [(1.0 - mean) / std for mean, std in pairs],
            )
        limits = torch.tensor(value_range, dtype=torch.float64)
        if limits.shape not in ((2,), (4, 2)) or not bool(
            (limits[..., 0] < limits[..., 1]).all()
        ):
            raise ValueError(
                '`value_range` must be a pair (low, high) or four of them, low below '
                f'high, got {value_range}'
            )
        low, high = limits.expand(4, 2).t().tolist()
        return low, high


@TASK_UTILS.register_module()
class PriorDistanceBBoxCoder(BaseBBoxCoder):
    """Distances from the centre of a prior to the sides of a box.

    In units of the prior's width (left, right) and height (top, bottom).

    Args:
        clip_border: clip decoded boxes to the image.
    """

    #: What a distribution over these numbers covers by default.
    value_range = (0.0, 2.0)

    def __init__(self, clip_border: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.clip_border = clip_border

    def encode(self, bboxes, gt_bboxes) -> Tensor:
        """Distances to left, top, right and bottom, shape (N, 4)."""
        bboxes, gt_bboxes = get_box_tensor(bboxes), get_box_tensor(gt_bboxes)
        centre, size = _centre_and_size(bboxes)
        return torch.cat(
            [(centre - gt_bboxes[:, :2]) / size, (gt_bboxes[:, 2:] - centre) / size],
            dim=1,
        )

    def decode(self, bboxes, pred_bboxes: Tensor, max_shape=None) -> Tensor:
        """Boxes in pixels, shapes (N, 4) and (N, k * 4) to (N, k * 4)."""
        centre, size = _centre_and_size(get_box_tensor(bboxes))
        distance = pred_bboxes.reshape(len(centre), -1, 4)
        centre, size = centre.unsqueeze(1), size.unsqueeze(1)
        corners = torch.cat(
            [centre - distance[..., :2] * size, centre + distance[..., 2:] * size],
            dim=-1,
        )
        if self.clip_border and max_shape is not None:
            height, width = max_shape[:2]
            limit = corners.new_tensor([width, height, width, height])
            corners = corners.clamp(min=0).minimum(limit)
        return corners.reshape(pred_bboxes.shape)


def _centre_and_size(bboxes: Tensor) -> tuple[Tensor, Tensor]:
    size = bboxes[:, 2:] - bboxes[:, :2]
    # A prior without area has no unit; it gets no sensible target either.
    return (bboxes[:, :2] + bboxes[:, 2:]) / 2, size.clamp(min=1e-6)
