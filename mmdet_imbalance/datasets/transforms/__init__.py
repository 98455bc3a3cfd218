"""Transforms; importing the package registers them."""

from mmdet_imbalance.datasets.transforms import (  # noqa: F401
    cached_features,
    load_hard_negatives,
    load_readable_image,
    merge_image_facts,
    pack_multi_label,
)
