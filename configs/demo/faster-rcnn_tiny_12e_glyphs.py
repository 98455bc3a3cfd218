_base_ = [
    '../_base_/models/faster-rcnn_tiny.py', '../_base_/datasets/glyphs.py',
    '../_base_/schedules/adamw_12e.py', '../_base_/runtime/small.py'
]
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=_base_.num_classes)))

# The backbone starts from scratch, too: it learns as fast as the rest.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
# One evaluation, at the end.
train_cfg = dict(val_interval=_base_.max_epochs)
