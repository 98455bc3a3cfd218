_base_ = '../aquarium/faster-rcnn_efficientnet-lite0_fpn_10e_aquarium.py'
model = dict(
    roi_head=dict(
        bbox_head=dict(
            # Starts at a probability of 1/C.
            cls_predictor_cfg=dict(type='mmdet_imbalance.PriorBiasLinear'),
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.EqualizationLossV2',
                num_classes=_base_.num_classes))))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'fc_cls.bias': dict(decay_mult=0.0)}))
