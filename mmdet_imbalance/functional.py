"""The pure functions: the library without the framework.

Tensors in, tensors out; nothing registered, no state, no host needed.
"""

from mmdet_imbalance.core.affinity import (
    gaussian_affinity,
    max_margin_affinity_loss,
    prototype_diversity,
)
from mmdet_imbalance.core.calibration import (
    fractal_calibration,
    logit_adjustment,
    norcal,
    tau_normalization,
)
from mmdet_imbalance.core.class_aware_selective import (
    class_aware_ignore,
    partial_asymmetric_loss,
)
from mmdet_imbalance.core.class_balanced import class_balanced_loss
from mmdet_imbalance.core.class_weights import (
    effective_num_weights,
    inverse_count_weights,
)
from mmdet_imbalance.core.concurrent_rate import concurrent_rate
from mmdet_imbalance.core.concurrent_softmax import (
    concurrent_softmax,
    concurrent_softmax_loss,
)
from mmdet_imbalance.core.gfl import distribution_focal_loss, quality_focal_loss
from mmdet_imbalance.core.ghm import ghm_c_loss, ghm_r_loss
from mmdet_imbalance.core.multi_label_focal import multi_label_focal_loss
from mmdet_imbalance.core.pisa import (
    carl_weights,
    iou_hierarchical_weights,
    score_hierarchical_weights,
)
from mmdet_imbalance.core.positive_boxes import balanced_positive_boxes, boxes_at_iou
from mmdet_imbalance.core.resampling import (
    repeat_factors,
    soft_balance_class_probs,
)
from mmdet_imbalance.core.roi_balance import foreground_balanced_probs

__all__ = [
    'balanced_positive_boxes',
    'boxes_at_iou',
    'carl_weights',
    'class_aware_ignore',
    'class_balanced_loss',
    'concurrent_rate',
    'concurrent_softmax',
    'concurrent_softmax_loss',
    'distribution_focal_loss',
    'effective_num_weights',
    'foreground_balanced_probs',
    'fractal_calibration',
    'gaussian_affinity',
    'ghm_c_loss',
    'ghm_r_loss',
    'inverse_count_weights',
    'iou_hierarchical_weights',
    'logit_adjustment',
    'max_margin_affinity_loss',
    'multi_label_focal_loss',
    'norcal',
    'partial_asymmetric_loss',
    'prototype_diversity',
    'quality_focal_loss',
    'repeat_factors',
    'score_hierarchical_weights',
    'soft_balance_class_probs',
    'tau_normalization',
]
