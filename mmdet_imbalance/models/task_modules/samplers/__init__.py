"""RoI samplers; importing the package registers them."""

from mmdet_imbalance.models.task_modules.samplers.foreground_balanced import (
    EqualInstancePosSampler,
    ForegroundBalancedPosSampler,
)
from mmdet_imbalance.models.task_modules.samplers.hard_mining import (
    HardNegativeSampler,
    TotalLossOHEMSampler,
)
from mmdet_imbalance.models.task_modules.samplers.iou_negatives import (
    EqualIoUNegSampler,
    IoURangeNegSampler,
)
from mmdet_imbalance.models.task_modules.samplers.mined_negatives import (
    MinedNegativeSampler,
)
from mmdet_imbalance.models.task_modules.samplers.roi_sampler import PlainRoISampler

__all__ = [
    'EqualInstancePosSampler',
    'EqualIoUNegSampler',
    'ForegroundBalancedPosSampler',
    'HardNegativeSampler',
    'IoURangeNegSampler',
    'MinedNegativeSampler',
    'PlainRoISampler',
    'TotalLossOHEMSampler',
]
