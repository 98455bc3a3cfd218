# Roboflow Aquarium (CC BY 4.0) as COCO files: 448 photos to train on, 127 to validate.
# The tree is that of Open Images; stock configs use it in the evaluation only.
data_root = 'data/aquarium/'
classes = ('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish',
           'stingray')
num_classes = len(classes)

# Names of the classes in the tree.  Puffins are left out on purpose: Open Images calls
# them Bird, and then every penguin would be a puffin.
tree = dict(
    type='mmdet_imbalance.ClassHierarchyDataset',
    hierarchy_file='open_images/bbox_labels_hierarchy.json',
    name_map=dict(
        fish='/m/0ch_cf',
        jellyfish='/m/0d8zb',
        penguin='/m/05z6w',
        shark='/m/0by6g',
        starfish='/m/01h8tj',
        stingray='/m/0m53l'),
    allow_unknown=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 320), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # A fifth larger than in training: the fish are small, and testing is cheap.
    dict(type='Resize', scale=(384, 384), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor')),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img='images/train/'),
        metainfo=dict(classes=classes),
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **tree,
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            ann_file='val.json',
            data_prefix=dict(img='images/validation/'),
            metainfo=dict(classes=classes),
            test_mode=True,
            pipeline=test_pipeline)))
test_dataloader = val_dataloader

# `coco`: the boxes as annotated.  `expanded`: as Open Images evaluates, an annotated
# shark is a fish too.  `expanded_both`: a detected one as well, which a detector needs
# that gives each object one label.
metric = 'mmdet_imbalance.ImbalanceCocoMetric'
val_evaluator = [
    dict(type=metric, classwise=True),
    dict(type=metric, prefix='expanded', expand_ancestors=True),
    dict(
        type=metric,
        prefix='expanded_both',
        expand_ancestors=True,
        expand_detections=True),
]
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
