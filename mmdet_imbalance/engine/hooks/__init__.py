"""Hooks; importing the package registers them."""

from mmdet_imbalance.engine.hooks.calibration_hook import CalibrationHook
from mmdet_imbalance.engine.hooks.class_stats_hook import ClassStatsHook
from mmdet_imbalance.engine.hooks.data_sampler_hook import DataSamplerHook
from mmdet_imbalance.engine.hooks.exact_resume_hook import ExactResumeHook
from mmdet_imbalance.engine.hooks.freq_group_log_hook import FreqGroupLogHook
from mmdet_imbalance.engine.hooks.label_prior_hook import LabelPriorHook
from mmdet_imbalance.engine.hooks.preemption_hook import PreemptionHook
from mmdet_imbalance.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook

__all__ = [
    'CalibrationHook',
    'ClassStatsHook',
    'DataSamplerHook',
    'ExactResumeHook',
    'FreqGroupLogHook',
    'LabelPriorHook',
    'PreemptionHook',
    'SafeCheckpointHook',
]
