_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.ProgressivelyBalancedSampler',
        end=12))
custom_hooks = [dict(type='mmdet_imbalance.DataSamplerHook')]
