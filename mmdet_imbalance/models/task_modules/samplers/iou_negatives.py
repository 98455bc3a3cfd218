"""Negative RoIs by their IoU with the nearest object.

Lower bound: Girshick, "Fast R-CNN", ICCV 2015, https://arxiv.org/abs/1504.08083,
section 2.3: negatives with an IoU in [0.1, 0.5).
IoU balance: Pang et al., "Libra R-CNN", CVPR 2019, https://arxiv.org/abs/1904.02701,
section 3.1.

Shapes: M negatives of an image.
Deviations: shares that do not divide evenly are rounded at random.
Deviations from the host's `IoUBalancedNegSampler`: intervals divide [0, `max_iou`] and
not [0, 1], the threshold of the sampler never changes, no loop.
"""

from collections.abc import Sequence

import torch
from mmdet.models.task_modules.assigners import AssignResult
from torch import Tensor

from mmdet_imbalance.core.roi_balance import choose_equal_shares, iou_interval
from mmdet_imbalance.models.task_modules.samplers.roi_sampler import (
    PlainRoISampler,
    negatives,
)
from mmdet_imbalance.registry import TASK_UTILS


@TASK_UTILS.register_module()
class IoURangeNegSampler(PlainRoISampler):
    """Draws negatives at random among those that touch an object a little.

    When to use it: most negatives are sky; a cheap stand-in for hard negatives.  The
    host has the same in its assigner, `neg_iou_thr=(0.1, 0.5)`, where a list instead of
    the tuple (as `--cfg-options`, JSON and YAML give) silently leaves no negatives.

    Args:
        num: RoIs of an image.
        pos_fraction: largest fraction of positives.
        iou_range: lowest IoU, and the one below which negatives stay.
        top_up: fill up with negatives outside the range where those within do not
            suffice; otherwise the image has fewer RoIs, as in the paper.
        neg_pos_ub, add_gt_as_proposals, seed, context: as `PlainRoISampler`.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        iou_range: Sequence[float] = (0.1, 0.5),
        top_up: bool = False,
        neg_pos_ub: int = -1,
        add_gt_as_proposals: bool = True,
        seed: int | None = None,
        context=None,
    ) -> None:
        super().__init__(
            num, pos_fraction, neg_pos_ub, add_gt_as_proposals, seed, context
        )
        try:
            self.low, self.high = (float(bound) for bound in iou_range)
        except (TypeError, ValueError):
            self.low, self.high = 1.0, 0.0
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(
                '`iou_range` must be two numbers 0 <= low < high <= 1, got '
                f'{iou_range!r}'
            )
        self.top_up = top_up

    def _sample_neg(
        self, assign_result: AssignResult, num_expected: int, **kwargs
    ) -> Tensor:
        inds = negatives(assign_result)
        iou = assign_result.max_overlaps[inds]
        within = (iou >= self.low) & (iou < self.high)
        chosen = self.choose_at_random(inds[within], num_expected)
        if not self.top_up:
            return chosen
        rest = self.choose_at_random(inds[~within], num_expected - len(chosen))
        return torch.cat([chosen, rest])


@TASK_UTILS.register_module()
class EqualIoUNegSampler(PlainRoISampler):
    """Draws negatives in equal shares of intervals of IoU.

    When to use it: hard negatives count, but scores are too noisy to pick them by
    (label noise); cheaper than hard-negative mining, no extra forward pass.

    Args:
        num: RoIs of an image.
        pos_fraction: largest fraction of positives.
        num_bins: number K of intervals.
        max_iou: upper end of the intervals, the assigner's `neg_iou_thr`.
        floor_thr: negatives of at most this IoU are no part of the intervals; -1 for
            none, 0 for those that touch nothing.
        floor_fraction: fraction of the negatives that comes from below `floor_thr`.
        neg_pos_ub, add_gt_as_proposals, seed, context: as `PlainRoISampler`.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        num_bins: int = 3,
        max_iou: float = 0.5,
        floor_thr: float = -1.0,
        floor_fraction: float = 0.0,
        neg_pos_ub: int = -1,
        add_gt_as_proposals: bool = True,
        seed: int | None = None,
        context=None,
    ) -> None:
        super().__init__(
            num, pos_fraction, neg_pos_ub, add_gt_as_proposals, seed, context
        )
        if num_bins < 1 or not 0 < max_iou <= 1 or not -1 <= floor_thr < max_iou:
            raise ValueError(
                'IoU intervals need num_bins >= 1, max_iou in (0, 1] and floor_thr in '
                f'[-1, max_iou), got num_bins={num_bins!r}, max_iou={max_iou!r}, '
                f'floor_thr={floor_thr!r}'
            )
        if not 0 <= floor_fraction <= 1 or (floor_fraction > 0 and floor_thr < 0):
            raise ValueError(
                '`floor_fraction` must lie in [0, 1] and needs floor_thr >= 0, got '
                f'floor_fraction={floor_fraction!r}, floor_thr={floor_thr!r}'
            )
        self.num_bins, self.max_iou = num_bins, max_iou
        self.floor_thr, self.floor_fraction = floor_thr, floor_fraction

    def _sample_neg(
        self, assign_result: AssignResult, num_expected: int, **kwargs
    ) -> Tensor:
        inds = negatives(assign_result)
        if len(inds) <= num_expected:
            return inds
        iou = assign_result.max_overlaps[inds]
        on_floor = iou <= self.floor_thr
        floor, above = inds[on_floor], inds[~on_floor]
        num_floor = round(num_expected * self.floor_fraction)
        # What one side cannot give comes from the other.
        num_floor = max(min(num_floor, len(floor)), num_expected - len(above))
        bins = iou_interval(iou[~on_floor], self.num_bins, self.max_iou)
        generator = self.generator(inds.device)
        balanced = choose_equal_shares(bins, num_expected - num_floor, generator)
        return torch.cat([self.choose_at_random(floor, num_floor), above[balanced]])
