_base_ = './retinanet_efficientnet-lite0_fpn_10e_hdbpmn.py'
num_classes = _base_.num_classes_with_ancestors
model = dict(
    bbox_head=dict(
        num_classes=num_classes,
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.ConcurrentSoftmaxLoss',
            num_classes=num_classes,
            use_sigmoid=False)),
    # A softmax has no focal factor: it is given a few of the many negatives.
    train_cfg=dict(
        sampler=dict(
            _delete_=True, type='RandomSampler', num=512, pos_fraction=0.25,
            add_gt_as_proposals=False)))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.train_dataloader.dataset))
val_dataloader = dict(
    dataset=dict(
        _delete_=True, **_base_.tree, dataset=_base_.val_dataloader.dataset))
test_dataloader = val_dataloader
