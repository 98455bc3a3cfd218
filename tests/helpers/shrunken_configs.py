"""Any config of the project, made small enough for three steps in a second or two.

What is kept: heads, losses, RoI and data samplers, hooks, metrics, dataset wrappers and
the optimiser.  What is replaced: the backbone by a ResNet-18 of 8 channels without
weights, the data by a few noise images with the config's own classes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmdet_imbalance.evaluation.hard_negatives import FILE_FORMAT, FILE_VERSION
from tests.helpers.config_files import CONFIG_DIR, find_type, walk

SIDE = 64
NUM_TRAIN, NUM_VAL, BATCH = 6, 2, 2
#: Channels of a ResNet-18 with base_channels=8 at strides 4, 8, 16, 32.
CHANNELS = [8, 16, 32, 64]


def shrink(name: str, folder: Path) -> Path:
    """Write a small version of `configs/NAME` and its data; returns its path.

    Args:
        name: config, relative to `configs/`.
        folder: where data and config are written.
    """
    init_default_scope('mmdet')
    cfg = Config.fromfile(str(CONFIG_DIR / name))
    shrink_model(cfg.model)
    # Where only a file of the training set has the names, they are those of the other.
    others = [_classes(leaf) for leaf in _innermost(cfg.val_dataloader.dataset)]
    num_classes = _num_classes(cfg.model)
    default = next(filter(None, others), [f'class {i}' for i in range(num_classes)])
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[key]
        loader.update(num_workers=0, persistent_workers=False)
        if key == 'train_dataloader':
            loader.batch_size = BATCH
        part = 'train' if key == 'train_dataloader' else 'val'
        _shrink_dataset(loader.dataset, folder, part, num_classes, tuple(default))
    for _, node in walk(cfg.train_dataloader):
        if isinstance(node, dict) and 'LoadHardNegatives' in str(node.get('type')):
            node['ann_file'] = _write_hard_negatives(folder)
    for key in ('val_evaluator', 'test_evaluator'):
        if not _is_ours(cfg[key]):
            cfg[key] = dict(type='mmdet_imbalance.ImbalanceCocoMetric')
        for _, node in walk(cfg[key]):
            if isinstance(node, dict) and node.get('ann_file'):
                node['ann_file'] = str(folder / 'val.json')
    if cfg.train_cfg.get('by_epoch', 'max_epochs' in cfg.train_cfg):
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
    else:
        cfg.train_cfg.update(max_iters=NUM_TRAIN // BATCH, val_interval=3)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = (
        NUM_TRAIN // BATCH
        if (cfg.default_hooks.checkpoint.get('by_epoch') is False)
        else 1
    )
    # The host keeps visualizers by name, with the folder of their first run.
    cfg.visualizer.name = str(folder)
    path = folder / 'small.py'
    cfg.dump(str(path))
    return path


def shrink_model(model: Any) -> None:
    """Give a detector's config a tiny backbone and narrow layers, in place."""
    levels = len(model.backbone.get('out_indices', CHANNELS))
    model.backbone = dict(
        type='ResNet',
        depth=18,
        base_channels=CHANNELS[0],
        out_indices=tuple(range(4 - levels, 4)),
        norm_cfg=dict(type='BN'),
    )
    model.neck.in_channels = CHANNELS[4 - levels :]
    for _, node in walk(model):
        if not isinstance(node, dict):
            continue
        if 'fc_out_channels' in node:
            node['fc_out_channels'] = 16
        if node.get('init_cfg', None) and 'checkpoint' in node['init_cfg']:
            node['init_cfg'] = None
    if 'data_preprocessor' in model:
        model.data_preprocessor.pop('batch_augments', None)


def _num_classes(model: Any) -> int:
    return next(v for path, v in walk(model) if path.endswith('num_classes') and v > 1)


def _innermost(dataset: Any) -> list:
    inner = dataset.get('dataset') or dataset.get('datasets')
    if inner is None:
        return [dataset]
    inner = inner if isinstance(inner, list) else [inner]
    return [leaf for child in inner for leaf in _innermost(child)]


def _classes(dataset: Any) -> tuple[str, ...]:
    """Class names of an innermost dataset config; empty where only files have them."""
    named = dataset.get('metainfo', {}).get('classes')
    return tuple(named or find_type(dataset.type).METAINFO.get('classes', ()))


def _is_ours(evaluator: Any) -> bool:
    parts = evaluator if isinstance(evaluator, list) else [evaluator]
    return all(part.type == 'mmdet_imbalance.ImbalanceCocoMetric' for part in parts)


def _shrink_dataset(
    dataset: Any, folder: Path, part: str, num_classes: int, default: tuple[str, ...]
) -> None:
    num_named = 0
    for leaf in _innermost(dataset):
        num_named = len(_classes(leaf))
        if leaf.type.endswith('GlyphDataset'):
            leaf.num_images = NUM_TRAIN if part == 'train' else NUM_VAL
            continue
        classes = _classes(leaf) or default
        num_named = len(classes)
        _write_coco(folder, part, classes)
        pipeline = leaf.pipeline
        leaf.clear()
        leaf.update(
            type='CocoDataset',
            data_root=f'{folder}/',
            ann_file=f'{part}.json',
            data_prefix=dict(img=''),
            metainfo=dict(classes=classes),
            test_mode=part == 'val',
            pipeline=pipeline,
        )
    for _, node in walk(dataset):
        if not isinstance(node, dict):
            continue
        for key in ('scale', 'img_scale'):
            if key in node and node.get('type') != 'RandomAffine':
                node[key] = (SIDE, SIDE)
        if 'scales' in node:
            node['scales'] = [(SIDE, SIDE)]
        if 'hierarchy_file' in node:
            names = _classes(_innermost(node)[0])
            name_map = node.get('name_map') or {}
            nodes = [name_map.get(n, n) for n in names]
            node['hierarchy_file'] = _write_tree(folder, nodes, num_classes - num_named)


def _write_coco(folder: Path, part: str, classes: tuple[str, ...]) -> None:
    path = folder / f'{part}.json'
    if path.exists():
        return
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(NUM_TRAIN if part == 'train' else NUM_VAL):
        name = f'{part}{index}.png'
        pixels = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        images.append(
            dict(
                id=index + 1,
                file_name=name,
                coco_url=f'http://host/{name}',
                width=SIDE,
                height=SIDE,
                neg_category_ids=[],
                not_exhaustive_category_ids=[],
            )
        )
        for box in range(3):
            x, y, side = 2 + 20 * box, 4 + 5 * index, 18
            corners = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=(3 * index + box) % len(classes) + 1,
                    bbox=[x, y, side, side],
                    area=side * side,
                    iscrowd=0,
                    segmentation=[corners],
                )
            )
    categories = [
        dict(
            id=number,
            name=name,
            frequency='rcf'[number % 3],
            image_count=1,
            instance_count=1,
        )
        for number, name in enumerate(classes, 1)
    ]
    content = dict(images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content))


def _write_hard_negatives(folder: Path) -> str:
    """One mined box on the first training image."""
    path = folder / 'hard_negatives.json'
    content = {
        'format': FILE_FORMAT,
        'version': FILE_VERSION,
        'images': {'1': {'bboxes': [[40, 40, 60, 60]], 'scores': [0.9]}},
    }
    path.write_text(json.dumps(content))
    return str(path)


def _write_tree(folder: Path, nodes: list[str], num_ancestors: int) -> str:
    """A hierarchy with `num_ancestors` inner nodes, or with the first class as one."""
    leaves = [dict(LabelName=name) for name in nodes]
    if num_ancestors > 0:
        inner = [
            dict(LabelName=f'inner{i}', Subcategory=leaves[i::num_ancestors])
            for i in range(num_ancestors)
        ]
    else:
        inner = [dict(leaves[0], Subcategory=leaves[1:])]
    path = folder / 'tree.json'
    path.write_text(json.dumps(dict(LabelName='root', Subcategory=inner)))
    return str(path)
