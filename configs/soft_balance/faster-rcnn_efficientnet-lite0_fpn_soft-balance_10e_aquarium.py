_base_ = '../aquarium/faster-rcnn_efficientnet-lite0_fpn_10e_aquarium.py'
# 0 is a plain shuffle, 1 class-aware; see the README for the sweep.
balance_exponent = 0.7
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, balance_exponent)]))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdet_imbalance.DataSamplerHook')
]
