_base_ = './mask-rcnn_r50_fpn_concurrent-softmax_ms-1x_lvis-v1.py'
# Categories of LVIS that WordNet puts above another one become positives too.
model = dict(
    roi_head=dict(
        # Ancestors share box and mask of their object, and are rarely annotated.
        bbox_head=dict(reg_class_agnostic=True),
        mask_head=dict(class_agnostic=True)))
dataset = _base_.train_dataloader.dataset.dataset
dataset.update(
    type='mmdet_imbalance.LVISMultiLabelDataset',
    hierarchy_file='wordnet',
    same_object_iou=None,
    load_masks=True)
train_dataloader = dict(dataset=dict(dataset=dict(_delete_=True, **dataset)))
