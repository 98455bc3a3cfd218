_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
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
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.HardNegativeSampler',
                num=128,
                pos_fraction=0.25))))
