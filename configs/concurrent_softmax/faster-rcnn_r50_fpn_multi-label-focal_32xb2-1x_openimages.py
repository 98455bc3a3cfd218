_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# A baseline of the paper.
num_classes = 601
model = dict(
    roi_head=dict(
        bbox_head=dict(
            # Ancestors share the box of their object, and are rarely annotated.
            reg_class_agnostic=True,
            # Starts at a probability of 1/C.
            cls_predictor_cfg=dict(type='mmdet_imbalance.PriorBiasLinear'),
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.MultiLabelFocalLoss',
                num_classes=num_classes))))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'fc_cls.bias': dict(decay_mult=0.0)}))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
