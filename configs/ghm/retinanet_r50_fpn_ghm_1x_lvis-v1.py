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
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.GHMClassificationLoss',
            num_classes=num_classes,
            num_bins=30,
            momentum=0.75),
        loss_bbox=dict(
            _delete_=True,
            type='mmdet_imbalance.GHMRegressionLoss',
            num_bins=10,
            momentum=0.7,
            loss_weight=10.0)),
    # LVIS judges the best 300 detections of an image, however low they score.
    test_cfg=dict(score_thr=0.0001, max_per_img=300))
optim_wrapper = dict(
    optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35, norm_type=2))
