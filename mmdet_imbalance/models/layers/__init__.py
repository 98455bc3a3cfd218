"""Layers that a config puts into stock heads; importing the package registers them."""

from mmdet_imbalance.models.layers.prior_bias_linear import PriorBiasLinear

__all__ = ['PriorBiasLinear']
