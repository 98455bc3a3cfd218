"""Checks and helpers for those who test a loss or a head of their own."""

from mmdet_imbalance.testing.contracts import check_classification_loss
from mmdet_imbalance.testing.demo_stats import demo_class_stats
from mmdet_imbalance.testing.detectors import small_detector_cfg

__all__ = ['check_classification_loss', 'demo_class_stats', 'small_detector_cfg']
