_base_ = '../foreground_balanced/faster-rcnn_efficientnet-lite0_fpn_foreground-balanced-batch_10e_aquarium.py'
# Which RoIs: classes have equal shares in a batch. Which images: every class is drawn
# equally often.
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, 1.0)]))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdet_imbalance.DataSamplerHook')
]
