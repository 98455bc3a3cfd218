_base_ = 'mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py'
# Every image first, the tail afterwards; the learning rate drops at the same epoch.
train_dataloader = dict(
    # Without the host's repeat factors, which would balance twice.
    dataset=dict(_delete_=True, **_base_.train_dataloader.dataset.dataset),
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, 0.0), (8, 0.7)]))
custom_hooks = [dict(type='mmdet_imbalance.DataSamplerHook')]
