_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ClassBalancedSoftmaxLoss',
                class_weight=dict(
                    type='effective_num', beta=0.999, normalize='object'),
                num_classes=_base_.num_classes))))
