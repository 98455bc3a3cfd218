"""Loss modules; importing the package registers them."""

from mmdet_imbalance.models.losses.affinity import AffinityLoss, AffinityPredictor
from mmdet_imbalance.models.losses.concurrent_softmax import ConcurrentSoftmaxLoss

__all__ = ['AffinityLoss', 'AffinityPredictor', 'ConcurrentSoftmaxLoss']
