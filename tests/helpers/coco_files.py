"""Small COCO files and the host's dataset over them."""

import json
from pathlib import Path

from mmdet.datasets import CocoDataset

CLASSES = ('cat', 'dog', 'cow')


def write_coco(path: Path, images, classes=CLASSES, frequency=None) -> Path:
    """Write one image a list of (class name, is crowd); boxes of 10 by 10 pixels."""
    annotations = []
    for image_id, boxes in enumerate(images):
        for k, (name, crowd) in enumerate(boxes):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=classes.index(name) + 1,
                    bbox=[10 * k, 10, 10, 10],
                    area=100,
                    iscrowd=crowd,
                )
            )
    categories = [dict(id=k + 1, name=name) for k, name in enumerate(classes)]
    for category, group in zip(categories, frequency or [], strict=False):
        category['frequency'] = group
    content = dict(
        images=[
            dict(id=k, file_name=f'{k}.jpg', width=100, height=80)
            for k in range(len(images))
        ],
        annotations=annotations,
        categories=categories,
    )
    path.write_text(json.dumps(content))
    return path


def coco(ann_file, **kwargs) -> CocoDataset:
    """The host's dataset over such a file, no image needed."""
    kwargs.setdefault('metainfo', dict(classes=CLASSES))
    return CocoDataset(ann_file=str(ann_file), data_prefix=dict(img=''), **kwargs)
