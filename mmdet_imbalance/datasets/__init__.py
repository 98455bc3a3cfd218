"""Datasets, data samplers and transforms; importing the package registers them."""

from mmdet_imbalance.datasets import glyphs, samplers, transforms  # noqa: F401
