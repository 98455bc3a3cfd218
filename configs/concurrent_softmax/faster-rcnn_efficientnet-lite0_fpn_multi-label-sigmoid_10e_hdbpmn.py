_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_concurrent-softmax_10e_hdbpmn.py'
# A baseline of the paper, on the same label sets.
model = dict(
    roi_head=dict(
        bbox_head=dict(
            # Starts at a probability of 1/C.
            cls_predictor_cfg=dict(type='mmdet_imbalance.PriorBiasLinear'),
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.MultiLabelSigmoidLoss',
                num_classes=_base_.num_classes_with_ancestors))))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'fc_cls.bias': dict(decay_mult=0.0)}))
