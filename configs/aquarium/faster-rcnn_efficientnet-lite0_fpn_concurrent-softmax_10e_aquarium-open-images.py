_base_ = './faster-rcnn_efficientnet-lite0_fpn_10e_aquarium-open-images.py'
# The labels of a box, its ancestors included, are all positives.
model = dict(
    roi_head=dict(
        type='mmdet_imbalance.ImbalanceRoIHead',
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ConcurrentSoftmaxLoss',
                num_classes=_base_.num_classes))))
