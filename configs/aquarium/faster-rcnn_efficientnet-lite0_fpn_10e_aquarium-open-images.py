_base_ = [
    '../_base_/models/faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/aquarium_open_images.py',
    '../_base_/schedules/adamw_10e.py', '../_base_/runtime/small.py'
]
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=_base_.num_classes)))
