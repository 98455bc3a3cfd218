_base_ = [
    '../_base_/models/retinanet_efficientnet-lite0_fpn.py',
    '../_base_/datasets/hdbpmn.py', '../_base_/schedules/adamw_10e.py',
    '../_base_/runtime/small.py'
]
model = dict(
    bbox_head=dict(
        num_classes=_base_.num_classes,
        # Events are 12 px wide at this scale, lanes four times as wide as high.
        anchor_generator=dict(
            octave_base_scale=1.5, ratios=[0.25, 0.5, 1.0, 2.0])))
