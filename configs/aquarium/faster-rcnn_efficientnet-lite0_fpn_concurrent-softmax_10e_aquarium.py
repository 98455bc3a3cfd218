_base_ = './faster-rcnn_efficientnet-lite0_fpn_10e_aquarium.py'
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ConcurrentSoftmaxLoss',
                num_classes=_base_.num_classes))))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.train_dataloader.dataset))
