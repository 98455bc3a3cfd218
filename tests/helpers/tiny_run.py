"""A detector and a dataset so small that a training step is a fraction of a second."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ('square', 'disc', 'stripe')

CONFIG = """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
data_root = '{data_root}/'
metainfo = dict(classes={classes!r})
model = dict(
    backbone=dict(
        depth=18, base_channels=8, init_cfg=None, norm_eval=False, frozen_stages=-1
    ),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5),
    bbox_head=dict(
        num_classes={num_classes}, in_channels=8, feat_channels=8, stacked_convs=1
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img=''),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img=''),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'train.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
param_scheduler = []
default_hooks = dict(logger=dict(interval=1))
"""


def write_data(folder: Path, num_images: int = 4, size: int = 64) -> Path:
    """Write images with one box of each class, and `train.json`; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(num_images):
        pixels = rng.integers(0, 80, (size, size, 3), dtype=np.uint8)
        for label in range(len(CLASSES)):
            x, y, side = 4 + 18 * label, 8 + 4 * i, 16
            pixels[y : y + side, x : x + side, label] = 255
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': i + 1,
                    'category_id': label + 1,
                    'bbox': [x, y, side, side],
                    'area': side * side,
                    'iscrowd': 0,
                }
            )
        name = f'{i}.png'
        Image.fromarray(pixels).save(folder / name)
        images.append({'id': i + 1, 'file_name': name, 'width': size, 'height': size})
    categories = [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)]
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    (folder / 'train.json').write_text(json.dumps(content))
    return folder


def write_config(
    folder: Path,
    data_root: Path | str,
    extra: str = '',
    num_classes: int = len(CLASSES),
    classes: tuple[str, ...] = CLASSES,
) -> Path:
    """Write a config of a tiny RetinaNet on the data of `write_data`.

    Args:
        folder: where the config is written, as tiny.py.
        data_root: folder of the data.
        extra: Python lines at the end.
        num_classes: of the head.
        classes: of the datasets' metainfo.
    """
    path = folder / 'tiny.py'
    text = CONFIG.format(data_root=data_root, num_classes=num_classes, classes=classes)
    path.write_text(text + extra)
    return path
