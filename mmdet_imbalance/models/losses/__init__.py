"""Loss modules; importing the package registers them."""

from mmdet_imbalance.models.losses.affinity import AffinityLoss, AffinityPredictor

__all__ = ['AffinityLoss', 'AffinityPredictor']
