_base_ = '../aquarium/retinanet_efficientnet-lite0_fpn_10e_aquarium.py'
model = dict(
    bbox_head=dict(
        type='mmdet_imbalance.ImbalanceRetinaHead',
        importance_weights=[
            dict(type='mmdet_imbalance.IoUHierarchicalWeight', gamma=2.0)
        ],
        extra_losses=[
            dict(
                type='mmdet_imbalance.ClassificationAwareRegressionLoss',
                k=1.0,
                bias=0.2)
        ],
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=0.11)))
