"""Datasets, data samplers and transforms; importing the package registers them."""

from mmdet_imbalance.datasets import (  # noqa: F401
    class_hierarchy,
    glyphs,
    lvis,
    open_images,
    samplers,
    transforms,
)
