"""Metrics that the host's runner calls; importing the package registers them."""

from mmdet_imbalance.evaluation.metrics.imbalance_coco_metric import (
    ImbalanceCocoMetric,
)
from mmdet_imbalance.evaluation.metrics.imbalance_lvis_metric import (
    ImbalanceLVISMetric,
)
from mmdet_imbalance.evaluation.metrics.imbalance_open_images_metric import (
    ImbalanceOpenImagesMetric,
)
from mmdet_imbalance.evaluation.metrics.multi_label_metric import (
    MultiLabelDetectionMetric,
)

__all__ = [
    'ImbalanceCocoMetric',
    'ImbalanceLVISMetric',
    'ImbalanceOpenImagesMetric',
    'MultiLabelDetectionMetric',
]
