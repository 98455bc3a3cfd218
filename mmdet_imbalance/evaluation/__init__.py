"""Evaluators, metrics, reports and comparisons."""

from mmdet_imbalance.evaluation.metrics import (
    ImbalanceCocoMetric,
    ImbalanceOpenImagesMetric,
)

__all__ = ['ImbalanceCocoMetric', 'ImbalanceOpenImagesMetric']
