"""Parts of assignment, sampling, importance and box coding."""

from mmdet_imbalance.models.task_modules import samplers  # noqa: F401
from mmdet_imbalance.models.task_modules.distribution_bbox_coder import (
    DistributionBBoxCoder,
    PriorDistanceBBoxCoder,
)
from mmdet_imbalance.models.task_modules.importance_weights import (
    IoUHierarchicalWeight,
    ScoreHierarchicalWeight,
)

__all__ = [
    'DistributionBBoxCoder',
    'IoUHierarchicalWeight',
    'PriorDistanceBBoxCoder',
    'ScoreHierarchicalWeight',
]
