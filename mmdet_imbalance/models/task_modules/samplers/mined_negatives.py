"""Negative RoIs of which some were mined offline.

Oksuz et al., TPAMI 2020, https://arxiv.org/abs/1909.00169, section 4.1 (bootstrapping).

Shapes: n candidates of an image (ground truths first, where they are proposals).
Deviations: none.
"""

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from torch import Tensor

from mmdet_imbalance.models.task_modules.samplers.roi_sampler import PlainRoISampler
from mmdet_imbalance.registry import TASK_UTILS


@TASK_UTILS.register_module()
class MinedNegativeSampler(PlainRoISampler):
    """Takes mined negatives first, others at random.

    When to use it: a trained model is wrong in the same places again and again.  Look
    at the mined boxes before: where labels are incomplete they are objects.

    Args:
        num: RoIs of an image.
        pos_fraction: largest fraction of positives.
        mined_fraction: largest fraction of the negatives that are mined ones.
        neg_pos_ub, add_gt_as_proposals, seed, context: as `PlainRoISampler`.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        mined_fraction: float = 0.5,
        neg_pos_ub: int = -1,
        add_gt_as_proposals: bool = True,
        seed: int | None = None,
        context=None,
    ) -> None:
        if not 0 <= mined_fraction <= 1:
            raise ValueError(
                f'`mined_fraction` must lie in [0, 1], got {mined_fraction!r}'
            )
        super().__init__(
            num, pos_fraction, neg_pos_ub, add_gt_as_proposals, seed, context
        )
        self.mined_fraction = mined_fraction

    def sample(
        self, assign_result: AssignResult, pred_instances, gt_instances, **kwargs
    ) -> SamplingResult:
        """Sample an image; arguments and result as in the host."""
        if 'mined' not in pred_instances:
            raise ValueError(
                'MinedNegativeSampler finds no mark of mined proposals: it belongs in '
                "a roi_head of type 'mmdet_imbalance.MinedNegativesRoIHead', not in a "
                'CombinedSampler'
            )
        return super().sample(
            assign_result,
            pred_instances,
            gt_instances,
            mined=pred_instances.mined,
            **kwargs,
        )

    def _sample_neg(
        self, assign_result: AssignResult, num_expected: int, mined=None, **kwargs
    ) -> Tensor:
        if mined is None:
            raise ValueError('MinedNegativeSampler cannot be half of a CombinedSampler')
        # The host has put ground truths before the proposals.
        num_gt = len(assign_result.gt_inds) - len(mined)
        mined = torch.cat([mined.new_zeros(num_gt), mined])
        negative = assign_result.gt_inds == 0
        first = self.choose_at_random(
            (negative & mined).nonzero().squeeze(1),
            int(num_expected * self.mined_fraction),
        )
        rest = self.choose_at_random(
            (negative & ~mined).nonzero().squeeze(1), num_expected - len(first)
        )
        return torch.cat([first, rest])
