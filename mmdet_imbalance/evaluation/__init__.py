"""Evaluators, metrics, reports and comparisons."""

from mmdet_imbalance.evaluation.metrics import ImbalanceCocoMetric

__all__ = ['ImbalanceCocoMetric']
