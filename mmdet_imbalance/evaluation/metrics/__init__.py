"""Metrics that the host's runner calls; importing the package registers them."""

from mmdet_imbalance.evaluation.metrics.imbalance_coco_metric import (
    ImbalanceCocoMetric,
)

__all__ = ['ImbalanceCocoMetric']
