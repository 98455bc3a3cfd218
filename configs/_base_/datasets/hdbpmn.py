# hdBPMN (CC BY 4.0): hand-drawn process diagrams, 432 to train on, 141 of other
# writers to validate; 22 shapes with a natural long tail, 2510 .. 1 boxes.
data_root = 'data/hdbpmn/'
classes = (
    'startEvent', 'task', 'exclusiveGateway', 'endEvent', 'parallelGateway',
    'startEvent:message', 'endEvent:message', 'intermediateThrowEvent',
    'intermediateThrowEvent:message', 'participant', 'lane',
    'dataObjectReference', 'dataStoreReference', 'subProcess', 'callActivity',
    'textAnnotation', 'intermediateCatchEvent:message',
    'intermediateCatchEvent:timer', 'inclusiveGateway', 'eventBasedGateway',
    'startEvent:timer', 'endEvent:terminate')
num_classes = len(classes)

# BPMN's own type tree.  Its inner nodes (event, anyStartEvent, gateway, ...) are not
# annotated; as classes of their own they make every object one of several classes.
tree = dict(
    type='mmdet_imbalance.ClassHierarchyDataset',
    hierarchy_file='hierarchy.json',
    add_ancestor_classes=True)
num_classes_with_ancestors = num_classes + 9

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(416, 416), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(416, 416), keep_ratio=True),
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
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=classes),
        filter_cfg=dict(filter_empty_gt=True, min_size=1),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='val.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

# Frequency groups are those of the training images (rare: 1 to 10 of them).
val_evaluator = dict(
    type='mmdet_imbalance.ImbalanceCocoMetric', classwise=True)
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
