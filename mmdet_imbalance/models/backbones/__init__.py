"""Backbones whose weights come from a package registry."""

from mmdet_imbalance.models.backbones.efficientnet_lite import EfficientNetLite

__all__ = ['EfficientNetLite']
