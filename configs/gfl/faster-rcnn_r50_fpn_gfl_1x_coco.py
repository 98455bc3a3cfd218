_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
num_classes = 80
model = dict(
    roi_head=dict(
        type='mmdet_imbalance.ImbalanceRoIHead',
        score_weighted_regression=True,
        bbox_head=dict(
            num_classes=num_classes,
            reg_class_agnostic=True,
            reg_decoded_bbox=True,
            bbox_coder=dict(
                _delete_=True,
                type='mmdet_imbalance.DistributionBBoxCoder',
                coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_stds=[0.1, 0.1, 0.2, 0.2]),
                reg_max=16),
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.QualityFocalLoss',
                num_classes=num_classes),
            loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0)),
        extra_losses=[dict(type='mmdet_imbalance.DistributionFocalLoss')]))
