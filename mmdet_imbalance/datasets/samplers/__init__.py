"""Data samplers; importing the package registers them."""

from mmdet_imbalance.datasets.samplers.repeat_factor import RepeatFactorSampler
from mmdet_imbalance.datasets.samplers.resumable_batches import ResumableBatches
from mmdet_imbalance.datasets.samplers.soft_balance import (
    ProgressivelyBalancedSampler,
    SoftBalanceSampler,
    SquareRootSampler,
    UniformClassSampler,
)

__all__ = [
    'ProgressivelyBalancedSampler',
    'RepeatFactorSampler',
    'ResumableBatches',
    'SoftBalanceSampler',
    'SquareRootSampler',
    'UniformClassSampler',
]
