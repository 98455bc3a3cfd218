"""Transforms; importing the package registers them."""

from mmdet_imbalance.datasets.transforms import pack_multi_label  # noqa: F401
