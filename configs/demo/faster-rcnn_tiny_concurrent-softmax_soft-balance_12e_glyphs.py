_base_ = './faster-rcnn_tiny_12e_glyphs.py'
# Classes that may hold together stop suppressing each other ...  The tree stays out of
# the loss: inner nodes are not annotated, and leaves are what is judged.
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ConcurrentSoftmaxLoss',
                num_classes=_base_.num_classes,
                hierarchy=False))))
# ... and images of rare classes are drawn more often once all have been seen.
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, 0.0), (6, 0.7)]))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdet_imbalance.DataSamplerHook')
]
