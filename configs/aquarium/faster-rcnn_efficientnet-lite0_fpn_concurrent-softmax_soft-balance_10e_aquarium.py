_base_ = './faster-rcnn_efficientnet-lite0_fpn_concurrent-softmax_10e_aquarium.py'
# Natural sampling first, so that every image is seen, then towards the tail.
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, 0.0), (5, 0.7)]))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdet_imbalance.DataSamplerHook')
]
