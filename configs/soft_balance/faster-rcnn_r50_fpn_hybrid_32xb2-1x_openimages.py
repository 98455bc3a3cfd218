_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# Every image first, the tail afterwards; the learning rate drops at the same epoch.
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, 0.0), (8, 0.7)]))
custom_hooks = [dict(type='mmdet_imbalance.DataSamplerHook')]
