"""What sigmoid losses on label sets share: channels and scores.

Shapes: N RoIs or anchors, C foreground classes (background is index C).
Deviations: none, this is plumbing.
"""

import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.models.losses.multi_label import MultiLabelLoss


class SigmoidLabelSetLoss(MultiLabelLoss):
    """Base of losses with a binary term for each class of a row."""

    use_sigmoid = True

    def scores(self, logits: Tensor) -> Tensor:
        """Sigmoid, and 0 for the background, which has no logit; (N, C + 1)."""
        return F.pad(logits.sigmoid(), (0, 1))
