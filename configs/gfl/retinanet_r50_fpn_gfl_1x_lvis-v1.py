_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/lvis_v1_multilabel.py',
    'mmdet::_base_/schedules/schedule_1x.py', 'mmdet::_base_/default_runtime.py'
]
num_classes = _base_.num_classes
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
        extra_losses=[dict(type='mmdet_imbalance.DistributionFocalLoss')]),
    # LVIS judges the best 300 detections of an image, however low they score.
    test_cfg=dict(score_thr=0.0001, max_per_img=300))
optim_wrapper = dict(optimizer=dict(lr=0.01))
