_base_ = './faster-rcnn_r50_fpn_concurrent-softmax_32xb2-1x_openimages.py'
# Annotations of one object (IoU 0.9) become one object with several labels.
model = dict(roi_head=dict(type='mmdet_imbalance.ImbalanceRoIHead'))
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='mmdet_imbalance.PackMultiLabelDetInputs')
]
dataset = _base_.train_dataloader.dataset
dataset.pop('meta_file')
dataset.type = 'mmdet_imbalance.OpenImagesMultiLabelDataset'
dataset.pipeline = train_pipeline
train_dataloader = dict(
    # Sizes of the images are not known before they are read.
    batch_sampler=None,
    dataset=dict(_delete_=True, **dataset))
