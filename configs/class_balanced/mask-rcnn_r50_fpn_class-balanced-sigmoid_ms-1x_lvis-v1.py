_base_ = 'mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py'
num_classes = 1203
model = dict(
    roi_head=dict(
        bbox_head=dict(
            # Starts at a probability of 1/C.
            cls_predictor_cfg=dict(type='mmdet_imbalance.PriorBiasLinear'),
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ClassBalancedSigmoidLoss',
                beta=0.999,
                num_classes=num_classes))))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'fc_cls.bias': dict(decay_mult=0.0)}))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
