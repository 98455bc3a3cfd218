"""RoI heads; importing the package registers them."""

from mmdet_imbalance.models.roi_heads.generated_positives_roi_head import (
    GeneratedPositivesRoIHead,
)
from mmdet_imbalance.models.roi_heads.imbalance_roi_head import ImbalanceRoIHead
from mmdet_imbalance.models.roi_heads.mined_negatives_roi_head import (
    MinedNegativesRoIHead,
)

__all__ = [
    'GeneratedPositivesRoIHead',
    'ImbalanceRoIHead',
    'MinedNegativesRoIHead',
]
