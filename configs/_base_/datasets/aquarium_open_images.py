# Roboflow Aquarium (CC BY 4.0) in the official file formats of Open Images: boxes,
# verified image-level labels, class names and the tree, all read as they are.
# 10 classes: the seven annotated ones (puffins are labelled Bird) and their ancestors.
data_root = 'data/aquarium/'
num_classes = 10

files = dict(
    type='mmdet_imbalance.OpenImagesMultiLabelDataset',
    data_root=data_root,
    label_file='open_images/class-descriptions-boxable.csv',
    hierarchy_file='open_images/bbox_labels_hierarchy.json')

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 320), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmdet_imbalance.PackMultiLabelDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(384, 384), keep_ratio=True),
    dict(
        type='PackDetInputs',
        # What the official protocol looks at: rows, group-of, verified labels.
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
                   'instances', 'verified_pos', 'verified_neg')),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    # Sizes of the images are not in the files, so a batch may mix both orientations.
    batch_sampler=None,
    dataset=dict(
        **files,
        ann_file='open_images/train-annotations-bbox.csv',
        image_level_ann_file='open_images/train-annotations-human-imagelabels-boxable.csv',  # noqa: E501
        data_prefix=dict(img='images/train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **files,
        ann_file='open_images/validation-annotations-bbox.csv',
        image_level_ann_file='open_images/validation-annotations-human-imagelabels-boxable.csv',  # noqa: E501
        data_prefix=dict(img='images/validation/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

# `openimages`: detections as they are.  `expanded_both`: given their ancestors first,
# which a detector needs that gives each object one label.
metric = 'mmdet_imbalance.ImbalanceOpenImagesMetric'
val_evaluator = [
    dict(type=metric, classwise=True),
    dict(type=metric, prefix='expanded_both', expand_detections=True),
]
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
