_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
model = dict(
    roi_head=dict(
        type='mmdet_imbalance.ImbalanceRoIHead',
        importance_weights=[
            dict(type='mmdet_imbalance.IoUHierarchicalWeight', gamma=2.0),
            dict(type='mmdet_imbalance.ScoreHierarchicalWeight', gamma=0.5)
        ],
        extra_losses=[
            dict(
                type='mmdet_imbalance.ClassificationAwareRegressionLoss',
                k=1.0,
                bias=0.2)
        ],
        bbox_head=dict(loss_bbox=dict(_delete_=True, type='SmoothL1Loss'))),
    train_cfg=dict(
        rpn_proposal=dict(max_per_img=2000),
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.HardNegativeSampler',
                num=512,
                pos_fraction=0.25))))
