"""Loss modules; importing the package registers them."""

from mmdet_imbalance.models.losses.affinity import AffinityLoss, AffinityPredictor
from mmdet_imbalance.models.losses.class_aware_selective import ClassAwareSelectiveLoss
from mmdet_imbalance.models.losses.class_balanced import (
    ClassBalancedFocalLoss,
    ClassBalancedSigmoidLoss,
    ClassBalancedSoftmaxLoss,
)
from mmdet_imbalance.models.losses.concurrent_softmax import ConcurrentSoftmaxLoss
from mmdet_imbalance.models.losses.distributed_softmax import DistributedSoftmaxLoss
from mmdet_imbalance.models.losses.equalization import EqualizationLossV2
from mmdet_imbalance.models.losses.federated import FederatedLoss
from mmdet_imbalance.models.losses.gfl import DistributionFocalLoss, QualityFocalLoss
from mmdet_imbalance.models.losses.ghm import GHMClassificationLoss, GHMRegressionLoss
from mmdet_imbalance.models.losses.multi_label_sigmoid import (
    MultiLabelFocalLoss,
    MultiLabelSigmoidLoss,
)
from mmdet_imbalance.models.losses.pisa import ClassificationAwareRegressionLoss
from mmdet_imbalance.models.losses.seesaw import SeesawLoss

__all__ = [
    'AffinityLoss',
    'AffinityPredictor',
    'ClassAwareSelectiveLoss',
    'ClassBalancedFocalLoss',
    'ClassBalancedSigmoidLoss',
    'ClassBalancedSoftmaxLoss',
    'ClassificationAwareRegressionLoss',
    'ConcurrentSoftmaxLoss',
    'DistributedSoftmaxLoss',
    'DistributionFocalLoss',
    'EqualizationLossV2',
    'FederatedLoss',
    'GHMClassificationLoss',
    'GHMRegressionLoss',
    'MultiLabelFocalLoss',
    'MultiLabelSigmoidLoss',
    'QualityFocalLoss',
    'SeesawLoss',
]
