_base_ = '../aquarium/retinanet_efficientnet-lite0_fpn_10e_aquarium.py'
model = dict(
    bbox_head=dict(
        # Starts at a probability of 1/C.
        init_cfg=dict(
            type='Normal', layer='Conv2d', std=0.01,
            override=dict(
                type='Normal', name='retina_cls', std=0.01,
                bias_prob=1 / _base_.num_classes)),
        loss_cls=dict(
            _delete_=True,
            type='mmdet_imbalance.ClassBalancedFocalLoss',
            use_sigmoid=True,
            beta=0.999,
            gamma=2.0,
            num_classes=_base_.num_classes)))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'retina_cls.bias': dict(decay_mult=0.0)}))
