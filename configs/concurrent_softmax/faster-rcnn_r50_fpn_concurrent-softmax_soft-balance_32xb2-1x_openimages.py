_base_ = './faster-rcnn_r50_fpn_concurrent-softmax_32xb2-1x_openimages.py'
# Every image first, the tail afterwards: the paper's hybrid training.
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, 0.0), (8, 0.7)]))
custom_hooks = [
    dict(type='mmdet_imbalance.ClassStatsHook'),
    dict(type='mmdet_imbalance.DataSamplerHook')
]
