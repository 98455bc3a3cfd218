_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/lvis_v1_multilabel.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py'
]
num_classes = _base_.num_classes
model = dict(
    roi_head=dict(
        type='mmdet_imbalance.ImbalanceRoIHead',
        bbox_head=dict(
            num_classes=num_classes,
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ClassAwareSelectiveLoss',
                num_classes=num_classes))),
    # LVIS judges the best 300 detections of an image, however low they score.
    test_cfg=dict(rcnn=dict(score_thr=0.0001, max_per_img=300)))
