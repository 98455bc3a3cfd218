_base_ = '../pisa/faster-rcnn_efficientnet-lite0_fpn_pisa_10e_hdbpmn.py'
# Which weight: prime samples. Which labels: each object is its inner nodes, too.
num_classes = _base_.num_classes_with_ancestors
model = dict(
    roi_head=dict(
        bbox_head=dict(
            num_classes=num_classes,
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ConcurrentSoftmaxLoss',
                num_classes=num_classes))))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.val_dataloader.dataset))
test_dataloader = val_dataloader
