"""Positive RoIs in equal shares of classes (OFB), or of objects.

OFB: Oksuz et al., WACV 2020, https://arxiv.org/abs/1909.09777, section 4.
Instance balance: Pang et al., "Libra R-CNN", CVPR 2019,
https://arxiv.org/abs/1904.02701 (its code).

Shapes: P positives of an image, B images.
Deviations: none; the paper balances over the batch, its code over each image, both are
here.
"""

import torch
from mmdet.models.task_modules.assigners import AssignResult
from torch import Tensor

from mmdet_imbalance.core.roi_balance import (
    choose_by_probs,
    choose_equal_shares,
    foreground_balanced_probs,
)
from mmdet_imbalance.models.task_modules.samplers.roi_sampler import (
    PlainRoISampler,
    positives,
)
from mmdet_imbalance.registry import TASK_UTILS

SCOPES = ('image', 'batch')


@TASK_UTILS.register_module()
class ForegroundBalancedPosSampler(PlainRoISampler):
    """Draws positives so that each class that is present has the same probability.

    When to use it: images show many objects of a frequent class beside few of a rare
    one, and the data sampler, which picks whole images, cannot part them.

    Args:
        num: RoIs of an image.
        pos_fraction: largest fraction of positives.
        scope: balance the classes of each 'image', as the authors' code, or of the
            'batch', as their text; the latter needs `mmdet_imbalance.ImbalanceRoIHead`.
        neg_pos_ub, add_gt_as_proposals, seed, context: as `PlainRoISampler`.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        scope: str = 'image',
        neg_pos_ub: int = -1,
        add_gt_as_proposals: bool = True,
        seed: int | None = None,
        context=None,
    ) -> None:
        if scope not in SCOPES:
            raise ValueError(f'`scope` must be one of {SCOPES}, got {scope!r}')
        super().__init__(
            num, pos_fraction, neg_pos_ub, add_gt_as_proposals, seed, context
        )
        self.scope = scope

    def _sample_pos(
        self, assign_result: AssignResult, num_expected: int, **kwargs
    ) -> Tensor:
        if self.scope == 'batch':
            raise ValueError(
                "scope='batch' needs a head that samples all images together: write "
                "type='mmdet_imbalance.ImbalanceRoIHead' in `roi_head`, or "
                "scope='image' here"
            )
        inds = positives(assign_result)
        if len(inds) <= num_expected:
            return inds
        probs = foreground_balanced_probs(assign_result.labels[inds])
        generator = self.generator(inds.device)
        return inds[choose_by_probs(probs, num_expected, generator)]

    def sample_batch_pos(self, labels: list[Tensor], num_expected: int) -> list[Tensor]:
        """Choose among the positives of all images.

        Args:
            labels: classes of the positives of each image, B times shape (P_i,).
            num_expected: number of positives of the whole batch.

        Returns:
            Positions of the chosen ones in each image, rising; no image has more than
            `num`, all of its RoIs.
        """
        sizes = [len(one) for one in labels]
        flat = torch.cat(labels)
        image_of = torch.arange(len(labels), device=flat.device).repeat_interleave(
            torch.tensor(sizes, device=flat.device)
        )
        chosen = choose_by_probs(
            foreground_balanced_probs(flat),
            num_expected,
            self.generator(flat.device),
            groups=image_of,
            max_per_group=self.num,
        )
        is_chosen = torch.zeros_like(flat, dtype=torch.bool)
        is_chosen[chosen] = True
        return [part.nonzero().squeeze(1) for part in is_chosen.split(sizes)]


@TASK_UTILS.register_module()
class EqualInstancePosSampler(PlainRoISampler):
    """Draws the same number of positives for each object.

    When to use it: large objects collect most of the positives.  Differs from the
    host's `InstanceBalancedPosSampler` in that it returns as many as were asked for.

    Args:
        num, pos_fraction, neg_pos_ub, add_gt_as_proposals, seed, context: as
            `PlainRoISampler`.
    """

    def _sample_pos(
        self, assign_result: AssignResult, num_expected: int, **kwargs
    ) -> Tensor:
        inds = positives(assign_result)
        if len(inds) <= num_expected:
            return inds
        objects = assign_result.gt_inds[inds]
        generator = self.generator(inds.device)
        return inds[choose_equal_shares(objects, num_expected, generator)]
