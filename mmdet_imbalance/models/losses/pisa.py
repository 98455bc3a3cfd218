"""Classification-aware regression loss (CARL).

Cao et al., "Prime Sample Attention in Object Detection", CVPR 2020,
https://arxiv.org/abs/1904.04821, section 4.2; the equations are in `core/pisa.py`.

Shapes: P positives of the batch.
Deviations: none.
"""

import copy

import torch
from torch import Tensor, nn

from mmdet_imbalance.core.pisa import carl_weights
from mmdet_imbalance.models.losses.ghm import GHMRegressionLoss
from mmdet_imbalance.models.regions import Regions
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class ClassificationAwareRegressionLoss(nn.Module):
    """Extra regression loss of the positives, weighted by their own class score.

    Gradients flow into the scores, so that well placed boxes score higher. An extra
    loss of `ImbalanceRoIHead` and `ImbalanceRetinaHead`.

    Args:
        k: exponent of the score; the paper uses 1.
        bias: weight at score 0; the paper uses 0.2.
        loss_bbox: config of an L1-type loss on encoded boxes; None takes the head's.
            With an IoU-type loss the method explodes, so that is refused.
        loss_weight: factor of the whole term.
    """

    #: Name in the log.
    loss_name = 'loss_carl'

    def __init__(
        self,
        k: float = 1.0,
        bias: float = 0.2,
        loss_bbox: dict | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= bias <= 1:
            raise ValueError(f'`bias` must be in [0, 1], got {bias}')
        self.k = k
        self.bias = bias
        self.loss_weight = loss_weight
        self.loss_bbox = None if loss_bbox is None else MODELS.build(loss_bbox)

    def check_head(self, loss_cls: nn.Module, loss_bbox: nn.Module, coder) -> None:
        """Raise ValueError where the regression loss is not of the L1 type."""
        loss = self.loss_bbox or loss_bbox
        if isinstance(loss, GHMRegressionLoss):
            raise ValueError(
                'CARL cannot use GHMRegressionLoss, whose weights depend on the whole '
                "batch: give it loss_bbox=dict(type='SmoothL1Loss') of its own"
            )
        if not _is_elementwise(loss):
            raise ValueError(
                'CARL needs an L1-type loss on encoded boxes, with one value for each '
                f'coordinate, but the regression loss is {type(loss).__name__}: give '
                "it loss_bbox=dict(type='L1Loss') of its own"
            )

    def region_loss(self, regions: Regions, avg_factor: float | Tensor) -> Tensor:
        """Weighted regression loss of the positives, summed over `avg_factor`."""
        scores = regions.pos_scores()
        weights = carl_weights(scores, self.k, self.bias)
        loss = (self.loss_bbox or regions.loss_bbox)(
            regions.pos_deltas, regions.pos_delta_targets, reduction_override='none'
        )
        return self.loss_weight * (loss * weights.unsqueeze(1)).sum() / avg_factor

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return f'k={self.k}, bias={self.bias}, loss_weight={self.loss_weight}'


@torch.no_grad()
def _is_elementwise(loss: nn.Module) -> bool:
    # A copy: the loss may count its calls.
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]])
    try:
        value = copy.deepcopy(loss)(boxes, boxes + 0.5, reduction_override='none')
    except (TypeError, ValueError, AssertionError, RuntimeError):
        return False
    return isinstance(value, Tensor) and value.shape == boxes.shape
