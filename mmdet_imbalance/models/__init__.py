"""Losses, heads, layers, backbones and RoI samplers."""

from mmdet_imbalance.models import (  # noqa: F401
    backbones,
    dense_heads,
    layers,
    losses,
    roi_heads,
    task_modules,
)
