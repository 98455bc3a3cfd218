"""Losses, heads, detectors, layers, backbones and RoI samplers."""

from mmdet_imbalance.models import (  # noqa: F401
    backbones,
    dense_heads,
    detectors,
    layers,
    losses,
    roi_heads,
    task_modules,
)
