_base_ = '../pisa/mask-rcnn_r50_fpn_pisa_ms-1x_lvis-v1.py'
# Which weight: prime samples. Which images: LVIS's repeat factors, drawn anew each epoch.
train_dataloader = dict(
    # Without the host's repeat factors, which would balance twice.
    dataset=dict(_delete_=True, **_base_.train_dataloader.dataset.dataset),
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.RepeatFactorSampler',
        oversample_thr=0.001))
custom_hooks = [dict(type='mmdet_imbalance.DataSamplerHook')]
