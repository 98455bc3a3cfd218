_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
model = dict(
    roi_head=dict(
        type='mmdet_imbalance.ImbalanceRoIHead',
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='mmdet_imbalance.ClassAwareSelectiveLoss',
                num_classes=_base_.num_classes,
                # The paper's 5 is for thousands of classes.
                top_k=1))))
# The file has LVIS's layout: what was looked for in each image reaches the loss.
train_dataloader = dict(
    dataset=dict(
        type='mmdet_imbalance.LVISMultiLabelDataset',
        pipeline=[
            *_base_.train_pipeline[:-1],
            dict(type='mmdet_imbalance.PackMultiLabelDetInputs')
        ]))
