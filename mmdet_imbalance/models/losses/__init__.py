"""Loss modules; importing the package registers them."""

from mmdet_imbalance.models.losses.affinity import AffinityLoss, AffinityPredictor
from mmdet_imbalance.models.losses.class_aware_selective import ClassAwareSelectiveLoss
from mmdet_imbalance.models.losses.concurrent_softmax import ConcurrentSoftmaxLoss
from mmdet_imbalance.models.losses.federated import FederatedLoss

__all__ = [
    'AffinityLoss',
    'AffinityPredictor',
    'ClassAwareSelectiveLoss',
    'ConcurrentSoftmaxLoss',
    'FederatedLoss',
]
