_base_ = [
    '../_base_/models/retinanet_efficientnet-lite0_fpn.py',
    '../_base_/datasets/aquarium.py', '../_base_/schedules/adamw_10e.py',
    '../_base_/runtime/small.py'
]
model = dict(bbox_head=dict(num_classes=_base_.num_classes))
