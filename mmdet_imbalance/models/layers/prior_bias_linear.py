"""A box head's classifier that starts from a probability of 1/C for each class.

Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
https://arxiv.org/abs/1901.05555, section 5.2: with a sigmoid or focal loss the last
layer's bias starts at -log((1 - pi) / pi), pi = 1/C, and has no weight decay.

Shapes: C foreground classes. Deviations: for C = 1, where pi = 1 has no finite logit,
the bias is 0.
"""

import math

from torch import nn

from mmdet_imbalance.registry import MODELS


def prior_bias(num_classes: int) -> float:
    """Logit of the probability 1/C: -log(C - 1), and 0 for C = 1."""
    if num_classes < 1:
        raise ValueError(f'`num_classes` must be at least 1, got {num_classes}')
    return -math.log(max(num_classes - 1, 1))


@MODELS.register_module()
class PriorBiasLinear(nn.Linear):
    """Linear layer for a box head's `cls_predictor_cfg`, with a bias of -log(C - 1).

    One line of a config, where the `init_cfg` of the head would be a dozen. Goes with
    a loss of C channels, of which it takes the number of classes. To exempt its bias
    from weight decay, write in the `optim_wrapper`
    `paramwise_cfg=dict(custom_keys={'fc_cls.bias': dict(decay_mult=0.0)})`.

    Args:
        in_features: given by the box head.
        out_features: number C of foreground classes, given by the box head.
        std: of the normal distribution the weight starts from; 0.01 is the host's.
    """

    def __init__(self, in_features: int, out_features: int, std: float = 0.01) -> None:
        super().__init__(in_features, out_features)
        self.std = std
        self.init_weights()

    def init_weights(self) -> None:
        """Called by the host after the `init_cfg` of the head."""
        nn.init.normal_(self.weight, std=self.std)
        nn.init.constant_(self.bias, prior_bias(self.out_features))
