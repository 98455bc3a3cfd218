_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.FederatedLoss',
                num_classes=_base_.num_classes,
                # Half of the classes: the paper's 50 are more than there are.
                num_sampled_classes=11))))
