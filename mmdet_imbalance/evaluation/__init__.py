"""Metrics and reports; importing the package registers the metrics."""

from mmdet_imbalance.evaluation import metrics  # noqa: F401
