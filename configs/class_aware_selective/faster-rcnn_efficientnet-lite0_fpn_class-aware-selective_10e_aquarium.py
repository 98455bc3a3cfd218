_base_ = '../aquarium/faster-rcnn_efficientnet-lite0_fpn_10e_aquarium.py'
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
# A shark is a fish: the tree's ancestors are positives, descendants open questions.
# For files cut by tools/make_longtail.py, which list what was looked for.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.tree,
        dataset=dict(
            **{**_base_.train_dataloader.dataset,
               'type': 'mmdet_imbalance.LVISMultiLabelDataset',
               'pipeline': [
                   *_base_.train_pipeline[:-1],
                   dict(type='mmdet_imbalance.PackMultiLabelDetInputs')
               ]})))
