_base_ = './retinanet_efficientnet-lite0_fpn_10e_aquarium.py'
# All anchors, no sampler of negatives: this head gives the background of a softmax
# nearly all of the probability at the start.
model = dict(
    bbox_head=dict(
        type='mmdet_imbalance.ImbalanceRetinaHead',
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.ConcurrentSoftmaxLoss',
            num_classes=_base_.num_classes,
            use_sigmoid=False)))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.train_dataloader.dataset))
