# The dataset and the head that know what was looked for in each image.
_base_ = '../class_aware_selective/faster-rcnn_efficientnet-lite0_fpn_class-aware-selective_10e_hdbpmn.py'  # noqa: E501
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.FederatedLoss',
                num_classes=_base_.num_classes,
                # Half of the classes: the paper's 50 are more than there are.
                num_sampled_classes=11))))
