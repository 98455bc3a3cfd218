"""Evaluators, metrics, reports and comparisons."""

from mmdet_imbalance.evaluation.metrics import (
    ImbalanceCocoMetric,
    ImbalanceLVISMetric,
    ImbalanceOpenImagesMetric,
    MultiLabelDetectionMetric,
)

__all__ = [
    'ImbalanceCocoMetric',
    'ImbalanceLVISMetric',
    'ImbalanceOpenImagesMetric',
    'MultiLabelDetectionMetric',
]
