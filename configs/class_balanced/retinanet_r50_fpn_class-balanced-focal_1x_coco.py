_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
num_classes = 80
model = dict(
    bbox_head=dict(
        # Starts at a probability of 1/C.
        init_cfg=dict(
            type='Normal', layer='Conv2d', std=0.01,
            override=dict(
                type='Normal', name='retina_cls', std=0.01,
                bias_prob=1 / num_classes)),
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.ClassBalancedFocalLoss',
            use_sigmoid=True,
            beta=0.9999,
            gamma=2.0,
            num_classes=num_classes)))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'retina_cls.bias': dict(decay_mult=0.0)}))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
