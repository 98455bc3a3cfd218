_base_ = 'mmdet::gfl/gfl_r50_fpn_1x_coco.py'
num_classes = 80
# The host's head with the quality focal loss of the package, weighted by class.
model = dict(
    bbox_head=dict(
        num_classes=num_classes,
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.QualityFocalLoss',
            use_sigmoid=True,
            num_classes=num_classes,
            class_weight=dict(type='effective_num', beta=0.999))))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
