_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
num_classes = 80
model = dict(
    bbox_head=dict(
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.ConcurrentSoftmaxLoss',
            use_sigmoid=False,
            num_classes=num_classes)),
    # A softmax has no focal factor: it is given a few of the many negatives.
    train_cfg=dict(
        sampler=dict(
            _delete_=True, type='RandomSampler', num=512, pos_fraction=0.25,
            add_gt_as_proposals=False)))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
