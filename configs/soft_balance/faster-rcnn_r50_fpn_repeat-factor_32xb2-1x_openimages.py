_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# Threshold of the LVIS paper; rounding is drawn anew each epoch.
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.RepeatFactorSampler',
        oversample_thr=0.001))
custom_hooks = [dict(type='mmdet_imbalance.DataSamplerHook')]
