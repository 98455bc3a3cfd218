"""The data half of a config: pipelines, datasets, loaders, metrics."""

from typing import Any

import numpy as np

from mmdet_imbalance.recommendation.plan import ConfigPlan, DataFiles
from mmdet_imbalance.recommendation.python_text import Code, assignment, comment
from mmdet_imbalance.recommendation.rules import PREFIX

META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
DATA_ROOT = Code('data_root')


def image_scale(plan: ConfigPlan) -> tuple[int, int]:
    """Longer and shorter side in training, pixels.

    The small backbone's finest features are 8 px apart: a median object of 24 px spans
    three of them.  A guess of ours, within what two CPU cores do.
    """
    if plan.backbone == 'r50':
        return (1333, 800)
    size = plan.profile.box_size
    side = 416 if not size > 0 else int(np.clip(24 / size, 320, 640)) // 32 * 32
    return (side, side)


def train_pipeline(plan: ConfigPlan) -> list[dict[str, Any]]:
    """Loading, scale, mirror images, and the pack step that the dataset needs."""
    pack = PREFIX + 'PackMultiLabelDetInputs'
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=image_scale(plan), keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type=pack if plan.multi_label_dataset else 'PackDetInputs'),
    ]


def _dataset(plan: ConfigPlan, files: DataFiles, is_train: bool) -> dict[str, Any]:
    dataset: dict[str, Any] = dict(
        type='CocoDataset',
        data_root=DATA_ROOT,
        ann_file=files.ann_file,
        data_prefix=dict(img=files.images),
        metainfo=dict(classes=Code('classes')),
    )
    tree = dict(plan.tree)
    if plan.kind == 'open_images':
        dataset['type'] = PREFIX + 'OpenImagesMultiLabelDataset'
        dataset['label_file'] = plan.class_file
        if files.image_labels:
            dataset['image_level_ann_file'] = files.image_labels
        dataset.update(tree)
    elif plan.multi_label_dataset:
        dataset['type'] = PREFIX + 'LVISMultiLabelDataset'
        if tree.get('hierarchy_file') == 'wordnet':
            dataset.update(tree)
    if is_train:
        sizes = {} if plan.kind == 'open_images' else {'min_size': 1}
        dataset['filter_cfg'] = dict(filter_empty_gt=True, **sizes)
    else:
        dataset['test_mode'] = True
    dataset['pipeline'] = Code('train_pipeline' if is_train else 'test_pipeline')
    if tree and 'hierarchy_file' not in dataset:
        return dict(type=PREFIX + 'ClassHierarchyDataset', **tree, dataset=dataset)
    return dataset


def train_loader(plan: ConfigPlan) -> dict[str, Any]:
    """Batches for the backbone, and the data sampler of the recipe."""
    is_small = plan.backbone != 'r50'
    loader: dict[str, Any] = dict(
        batch_size=4 if is_small else 2,
        num_workers=0 if is_small else 2,
        persistent_workers=not is_small,
        sampler=plan.recipe.sampler or dict(type='DefaultSampler', shuffle=True),
    )
    if plan.kind != 'open_images':
        loader['batch_sampler'] = dict(type='AspectRatioBatchSampler')
    loader['dataset'] = _dataset(plan, plan.train, is_train=True)
    return loader


def validation(plan: ConfigPlan) -> list[str]:
    """Source of everything that validation and test need, or of their absence."""
    parts = ('dataloader', 'evaluator', 'cfg')
    if plan.val is None:
        names = [f'{phase}_{part}' for phase in ('val', 'test') for part in parts]
        return [
            comment('Nothing to validate on was named (--val).')
            + '\n'
            + '\n'.join(f'{name} = None' for name in names)
        ]
    # Testing is cheap, and small objects gain by a fifth more.
    scale = image_scale(plan)
    if plan.backbone != 'r50':
        scale = tuple(side * 6 // 5 // 32 * 32 for side in scale)
    is_open_images = plan.kind == 'open_images'
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=scale, keep_ratio=True),
        *([] if is_open_images else [dict(type='LoadAnnotations', with_bbox=True)]),
        dict(type='PackDetInputs', meta_keys=(*META_KEYS, *_facts(plan))),
    ]
    loader = dict(
        batch_size=1,
        num_workers=0 if plan.backbone != 'r50' else 2,
        drop_last=False,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=_dataset(plan, plan.val, is_train=False),
    )
    return [
        assignment('test_pipeline', pipeline),
        assignment('val_dataloader', loader),
        'test_dataloader = val_dataloader',
        assignment(
            'val_evaluator',
            _evaluators(plan),
            {
                'val_evaluator': [
                    'By frequency group; the groups are those of the training images.'
                ]
            },
        )
        + '\ntest_evaluator = val_evaluator',
    ]


def _facts(plan: ConfigPlan) -> tuple[str, ...]:
    """Keys of a record that the metric of `_evaluators` reads besides the boxes."""
    if plan.kind == 'open_images':
        return ('instances', 'verified_pos', 'verified_neg')
    return ('verified_neg', 'not_exhaustive') if plan.recipe.carries_facts else ()


def _evaluators(plan: ConfigPlan) -> list[dict[str, Any]]:
    if plan.kind == 'open_images':
        return [dict(type=PREFIX + 'ImbalanceOpenImagesMetric')]
    if plan.recipe.carries_facts:
        return [dict(type=PREFIX + 'ImbalanceLVISMetric')]
    metric = PREFIX + 'ImbalanceCocoMetric'
    evaluators = [dict(type=metric, classwise=True)]
    if plan.tree:
        evaluators.append(dict(type=metric, prefix='expanded', expand_ancestors=True))
    return evaluators
