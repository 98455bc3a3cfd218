"""Federated loss: a minibatch judges a sample of the classes.

The baseline of LVIS practice: Zhou et al., "Probabilistic two-stage detection", 2021,
https://arxiv.org/abs/2103.07461, section 5.3: binary cross-entropy on the classes that
the minibatch shows, and on others drawn by the square root of their frequency until
there are `num_sampled_classes`.

Shapes: N RoIs or anchors, C foreground classes (background is index C).
Deviations: the ancestors of a label are positives, its descendants are left out, and so
are entries that a partial target calls un-annotated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.class_aware_selective import PartialTargetLoss
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class FederatedLoss(PartialTargetLoss):
    """Sigmoid cross-entropy on the classes shown and a sample of the others.

    Draws from the default generator of the logits' device, as dropout does, so that the
    host's seed rules it and ranks differ.

    Args:
        num_classes: number C of foreground classes.
        num_sampled_classes: classes judged in a minibatch; more if it shows more.  The
            paper uses 50 on LVIS.
        freq_exponent: the other classes are drawn by their image count to this power;
            0.5 in the paper.
        **kwargs: arguments of `MultiLabelLoss`.
    """

    target_kind = 'multi_label'

    def __init__(
        self,
        num_classes: int,
        num_sampled_classes: int = 50,
        freq_exponent: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        if num_sampled_classes < 1:
            raise ValueError(
                f'`num_sampled_classes` must be at least 1, got {num_sampled_classes}'
            )
        if freq_exponent < 0:
            raise ValueError(f'`freq_exponent` must be at least 0, got {freq_exponent}')
        self.num_sampled_classes = num_sampled_classes
        self.freq_exponent = freq_exponent
        if freq_exponent == 0:
            self.register_buffer('img_count', torch.ones(num_classes), persistent=False)
        else:
            self.declare_stat('img_count', (num_classes,))
        self.init_stats()

    def stats_values(self, stats) -> dict:
        """Image counts, beside what the base derives."""
        values = super().stats_values(stats)
        if 'img_count' in self._stat_names:
            values['img_count'] = stats.img_count
        return values

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Cross-entropy summed over the judged classes of each row, shape (N,)."""
        target = self.partial_target(target)
        judged = self.judged_classes(target).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(
            logits, (target == 1).to(logits.dtype), reduction='none'
        )
        return loss.masked_fill(target == -1, 0.0) @ judged

    @torch.no_grad()
    def judged_classes(self, target: Tensor) -> Tensor:
        """Classes that this minibatch judges, bool (C,)."""
        shown = (target == 1).any(dim=0)
        # Gumbel keys: the k largest are a draw without replacement by the weights.
        uniform = torch.rand_like(self.img_count).clamp(min=1e-12)
        keys = self.freq_exponent * self.img_count.log() - (-uniform.log()).log()
        keys = keys.masked_fill(shown, torch.inf)
        kept = keys.topk(min(self.num_sampled_classes, self.num_classes)).indices
        sampled = torch.zeros_like(shown).scatter(0, kept, True)
        # A class without training images is never drawn: its key is -inf.
        return shown | (sampled & (keys > -torch.inf))

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return (
            f'{super().extra_repr()}, num_sampled_classes={self.num_sampled_classes}, '
            f'freq_exponent={self.freq_exponent}'
        )
