_base_ = './faster-rcnn_efficientnet-lite0_fpn_class-aware-selective_10e_hdbpmn.py'
# The tree's inner nodes (event, gateway, ...) as classes of their own, never annotated
# themselves: positive where a descendant is, un-annotated elsewhere.
num_classes = _base_.num_classes_with_ancestors
model = dict(
    roi_head=dict(
        bbox_head=dict(
            num_classes=num_classes, loss_cls=dict(num_classes=num_classes))))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.tree,
        dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.val_dataloader.dataset))
test_dataloader = val_dataloader
