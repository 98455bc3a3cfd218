_base_ = './retinanet_efficientnet-lite0_fpn_10e_hdbpmn.py'
num_classes = _base_.num_classes_with_ancestors
# All anchors, no sampler of negatives: this head gives the background of a softmax
# nearly all of the probability at the start.
model = dict(
    bbox_head=dict(
        type='mmdet_imbalance.ImbalanceRetinaHead',
        num_classes=num_classes,
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.ConcurrentSoftmaxLoss',
            num_classes=num_classes,
            use_sigmoid=False)))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.val_dataloader.dataset))
test_dataloader = val_dataloader
