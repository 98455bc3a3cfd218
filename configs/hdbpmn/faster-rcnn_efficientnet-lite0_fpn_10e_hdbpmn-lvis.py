_base_ = './faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
# The same images and labels, read as LVIS and judged by its federated protocol.
lvis = dict(type='mmdet_imbalance.LVISMultiLabelDataset')
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='mmdet_imbalance.PackMultiLabelDetInputs')
]
train_dataloader = dict(dataset=dict(**lvis, pipeline=train_pipeline))
val_dataloader = dict(dataset=lvis)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdet_imbalance.ImbalanceLVISMetric',
    ann_file=_base_.data_root + 'val.json')
test_evaluator = val_evaluator
