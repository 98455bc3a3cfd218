# Embedded data: glyphs of the fonts in matplotlib's wheel.  Training is long-tailed and
# annotates one of an object's labels (30 % of the objects: all); validation is balanced
# and annotates all.
num_classes = 82
image_size = 128

glyphs = dict(
    type='mmdet_imbalance.GlyphDataset',
    image_size=image_size,
    glyph_size=(16, 40),
    cache_dir='data/glyphs')
# The dataset hands the image over in memory, so there is no loading step.
pipeline = [
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=None,
    dataset=dict(
        **glyphs,
        num_images=500,
        seed=0,
        imbalance_factor=200.0,
        annotate='one',
        complete_fraction=0.3,
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **glyphs,
        num_images=200,
        # Other pictures than those of any training seed below a million.
        seed=1_000_000,
        imbalance_factor=1.0,
        annotate='all',
        test_mode=True,
        pipeline=pipeline))
test_dataloader = val_dataloader

# `coco`: leaves, each label of an object for itself.  `tree`: with the inner nodes; an
# annotated or detected alpha is a greek letter, too.
metric = 'mmdet_imbalance.ImbalanceCocoMetric'
val_evaluator = [
    dict(type=metric, classwise=True),
    dict(
        type=metric,
        prefix='tree',
        classwise=True,
        expand_ancestors=True,
        expand_detections=True),
]
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
