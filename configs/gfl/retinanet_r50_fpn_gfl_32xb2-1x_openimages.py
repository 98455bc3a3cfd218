_base_ = 'mmdet::openimages/retinanet_r50_fpn_32xb2-1x_openimages.py'
num_classes = 601
model = dict(
    bbox_head=dict(
        type='mmdet_imbalance.ImbalanceRetinaHead',
        num_classes=num_classes,
        reg_decoded_bbox=True,
        score_weighted_regression=True,
        bbox_coder=dict(
            _delete_=True,
            type='mmdet_imbalance.DistributionBBoxCoder',
            coder=dict(type='DeltaXYWHBBoxCoder'),
            reg_max=16),
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.QualityFocalLoss',
            num_classes=num_classes),
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0),
        extra_losses=[dict(type='mmdet_imbalance.DistributionFocalLoss')]))
