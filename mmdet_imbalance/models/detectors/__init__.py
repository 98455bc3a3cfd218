"""Detectors; importing the package registers them."""

from mmdet_imbalance.models.detectors.frozen_features import (
    FeatureStacker,
    FrozenFeaturesFasterRCNN,
    FrozenFeaturesSingleStage,
)

__all__ = ['FeatureStacker', 'FrozenFeaturesFasterRCNN', 'FrozenFeaturesSingleStage']
