_base_ = '../aquarium/faster-rcnn_efficientnet-lite0_fpn_concurrent-softmax_10e_aquarium.py'
# A baseline of the paper, on the same label sets.
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.DistributedSoftmaxLoss',
                num_classes=_base_.num_classes))))
