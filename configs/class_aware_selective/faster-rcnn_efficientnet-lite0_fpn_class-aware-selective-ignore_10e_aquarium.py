_base_ = './faster-rcnn_efficientnet-lite0_fpn_class-aware-selective_10e_aquarium.py'
model = dict(roi_head=dict(bbox_head=dict(loss_cls=dict(mode='ignore'))))
# Writes label_prior.json, for prior='...' of the selective mode.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdet_imbalance.LabelPriorHook')
]
