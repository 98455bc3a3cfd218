_base_ = [
    '../_base_/models/faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/hdbpmn.py', '../_base_/schedules/adamw_10e.py',
    '../_base_/runtime/small.py'
]
model = dict(
    # Events are 12 px wide at this scale, lanes four times as wide as high.
    rpn_head=dict(
        anchor_generator=dict(scales=[1.5, 3], ratios=[0.25, 0.5, 1.0, 2.0])),
    roi_head=dict(bbox_head=dict(num_classes=_base_.num_classes)))
