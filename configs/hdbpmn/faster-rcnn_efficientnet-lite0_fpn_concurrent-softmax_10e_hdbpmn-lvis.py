_base_ = './faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn-lvis.py'
# Every object is an example of its class and of the inner nodes above it.
num_classes = _base_.num_classes_with_ancestors
model = dict(
    roi_head=dict(
        type='mmdet_imbalance.ImbalanceRoIHead',
        bbox_head=dict(
            num_classes=num_classes,
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ConcurrentSoftmaxLoss',
                num_classes=num_classes))))
# A row an object, as in the figures of README.md; 8 objects here have two rows.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.tree,
        dataset=dict(same_object_iou=None, **_base_.train_dataloader.dataset)))
val_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.val_dataloader.dataset))
test_dataloader = val_dataloader
