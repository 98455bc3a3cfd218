_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
num_classes = 80
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
            loss_weight=10.0)))
# The authors' norm.
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
