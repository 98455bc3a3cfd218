_base_ = '../aquarium/faster-rcnn_efficientnet-lite0_fpn_10e_aquarium.py'
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.ProgressivelyBalancedSampler',
        end=10))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdet_imbalance.DataSamplerHook')
]
