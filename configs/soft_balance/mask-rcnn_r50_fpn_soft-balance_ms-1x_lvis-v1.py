_base_ = 'mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py'
# 0 is a plain shuffle, 1 class-aware; see the README for the sweep.
balance_exponent = 0.7
train_dataloader = dict(
    # Without the host's repeat factors, which would balance twice.
    dataset=dict(_delete_=True, **_base_.train_dataloader.dataset.dataset),
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, balance_exponent)]))
custom_hooks = [dict(type='mmdet_imbalance.DataSamplerHook')]
