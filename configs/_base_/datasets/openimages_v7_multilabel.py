# Open Images V7 boxes (the files of V4 to V7 are the same) with the class tree, label
# sets and verified image-level labels, all as downloaded. Aspect-ratio batching needs
#   python tools/image_sizes.py data/open_images/train --out \
#       data/open_images/annotations/train-image-sizes.csv \
#       --ann-file data/open_images/annotations/oidv6-train-annotations-bbox.csv
# without it: image_sizes_file=None and batch_sampler=None.
data_root = 'data/open_images/'
num_classes = 601

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1024, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmdet_imbalance.PackMultiLabelDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1024, 800), keep_ratio=True),
    dict(
        type='PackDetInputs',
        # What the official protocol looks at: rows, group-of, verified labels.
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
                   'instances', 'verified_pos', 'verified_neg')),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='mmdet_imbalance.OpenImagesMultiLabelDataset',
        data_root=data_root,
        ann_file='annotations/oidv6-train-annotations-bbox.csv',
        label_file='annotations/class-descriptions-boxable.csv',
        hierarchy_file='annotations/bbox_labels_600_hierarchy.json',
        image_level_ann_file='annotations/oidv6-train-annotations-human-imagelabels-boxable.csv',  # noqa: E501
        image_sizes_file='annotations/train-image-sizes.csv',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdet_imbalance.OpenImagesMultiLabelDataset',
        data_root=data_root,
        ann_file='annotations/validation-annotations-bbox.csv',
        label_file='annotations/class-descriptions-boxable.csv',
        hierarchy_file='annotations/bbox_labels_600_hierarchy.json',
        image_level_ann_file='annotations/validation-annotations-human-imagelabels-boxable.csv',  # noqa: E501
        data_prefix=dict(img='validation/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='mmdet_imbalance.ImbalanceOpenImagesMetric')
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
