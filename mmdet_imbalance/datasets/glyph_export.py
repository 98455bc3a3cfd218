"""Writes a glyph dataset as a folder that any COCO reader takes.

Shapes: boxes are x, y, width, height in pixels, as COCO has them.
"""

import json
from pathlib import Path

import cv2

from mmdet_imbalance.core.atomic_write import atomic_path, write_text_atomically
from mmdet_imbalance.datasets.glyph_annotator import labels_of
from mmdet_imbalance.datasets.glyph_vocabulary import hierarchy_tree
from mmdet_imbalance.datasets.glyphs import GlyphDataset


def coco_content(dataset: GlyphDataset) -> dict:
    """Images, annotations and categories in the form of a COCO file.

    Annotations are one row for each label of each object; `true_category_ids` beside
    them holds what the glyph can be, whatever was annotated.
    """
    images, annotations = [], []
    for idx in range(len(dataset)):
        record = dataset.get_data_info(idx)
        size = {'height': record['height'], 'width': record['width']}
        name = _file_name(record)
        images.append({'id': record['img_id'], 'file_name': name, **size})
        for instance in record['instances']:
            x1, y1, x2, y2 = instance['bbox']
            for label in labels_of(instance):
                annotation = {
                    'id': len(annotations) + 1,
                    'image_id': record['img_id'],
                    'category_id': label + 1,
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'area': (x2 - x1) * (y2 - y1),
                    'iscrowd': 0,
                    'object_id': instance['object_id'],
                    'true_category_ids': [v + 1 for v in instance['true_labels']],
                }
                annotations.append(annotation)
    names = enumerate(dataset.metainfo['classes'], start=1)
    categories = [{'id': number, 'name': name} for number, name in names]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def export_coco(dataset: GlyphDataset, folder: str | Path) -> Path:
    """Write `images/*.png`, `annotations.json` and `hierarchy.json` (Open Images form).

    Returns:
        The COCO file, which is written last: where it exists, the rest does too.
    """
    folder = Path(folder)
    for idx in range(len(dataset)):
        record = dataset.get_data_info(idx)
        with atomic_path(folder / 'images' / _file_name(record)) as temporary:
            _, payload = cv2.imencode('.png', dataset.image(record['img_id']))
            temporary.write_bytes(payload.tobytes())
    write_text_atomically(folder / 'hierarchy.json', json.dumps(hierarchy_tree()))
    content = json.dumps(coco_content(dataset))
    write_text_atomically(folder / 'annotations.json', content)
    return folder / 'annotations.json'


def _file_name(record: dict) -> str:
    return f'{record["img_id"]:07d}.png'
