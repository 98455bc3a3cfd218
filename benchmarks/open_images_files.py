"""Annotation files in the official form of Open Images, of any size.

`open_images_scale.py` measures on them. Random content with the tree's depth, a long
tail of classes, concurrent labels and group-of boxes.
"""

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

NUM_CLASSES = 601
HEADER = (
    'ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,'
    'IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside'
)
IMAGES_AT_ONCE = 100_000
FRACTION_CONCURRENT = 0.05
FRACTION_GROUP_OF = 0.05


def mids() -> list[str]:
    return [f'/m/{k:05x}' for k in range(NUM_CLASSES)]


def generate(folder: Path, num_images: int, num_boxes: int, seed: int = 0) -> None:
    """Write box and image-level CSV, class list, hierarchy and sizes of images."""
    folder.mkdir(parents=True, exist_ok=True)
    names = mids()
    rows = [(mid, f'class {k}') for k, mid in enumerate(names)]
    with open(folder / 'classes.csv', 'w', newline='') as file:
        csv.writer(file).writerows(rows)
    # Each class k > 0 stands under class k // 5: five levels, as in the real tree.
    nodes = [{'LabelName': mid, 'Subcategory': []} for mid in names]
    for k in range(1, NUM_CLASSES):
        nodes[k // 5]['Subcategory'].append(nodes[k])
    tree = {'LabelName': 'root', 'Subcategory': [nodes[0]]}
    nodes[0]['Subcategory'] = [n for n in nodes[0]['Subcategory'] if n is not nodes[0]]
    (folder / 'hierarchy.json').write_text(json.dumps(tree))
    rng = np.random.default_rng(seed)
    classes = 1 / np.arange(1, NUM_CLASSES + 1)
    classes = np.cumsum(classes / classes.sum())
    mean = num_boxes / num_images
    with (
        open(folder / 'boxes.csv', 'wb') as boxes_file,
        open(folder / 'labels.csv', 'wb') as labels_file,
    ):
        boxes_file.write(HEADER.encode() + b'\n')
        labels_file.write(b'ImageID,Source,LabelName,Confidence\n')
        for start in range(0, num_images, IMAGES_AT_ONCE):
            num = min(IMAGES_AT_ONCE, num_images - start)
            ids = pa.array([f'{k:016x}' for k in range(start, start + num)])
            size = rng.geometric(1 / mean, num)
            box_table, label_table = _tables(rng, ids, size, classes, names)
            for file, table in ((boxes_file, box_table), (labels_file, label_table)):
                options = arrow_csv.WriteOptions(
                    include_header=False, quoting_style='none'
                )
                arrow_csv.write_csv(table, file, options)


def _tables(rng, ids, size, classes, names) -> tuple[pa.Table, pa.Table]:
    image = np.repeat(np.arange(len(size)), size)
    num = len(image)
    label = np.searchsorted(classes, rng.random(num)).clip(max=NUM_CLASSES - 1)
    low = rng.random((num, 2)) * 0.8
    high = low + 0.02 + rng.random((num, 2)) * (0.98 - low)
    box = np.concatenate([low, high], axis=1)
    # Some rows repeat the box before them with another label.
    again = np.flatnonzero(rng.random(num) < FRACTION_CONCURRENT)
    again = again[(again > 0) & (image[again] == image[again - 1])]
    box[again] = box[again - 1]
    box = np.round(box.clip(0, 1), 6)
    flag = [np.where(rng.random(num) < p, 1, 0).astype(np.int8) for p in (0.6, 0.2)]
    group = (rng.random(num) < FRACTION_GROUP_OF).astype(np.int8)
    none = np.zeros(num, dtype=np.int8)
    texts = pa.array(names)
    box_table = pa.table(
        {
            'ImageID': ids.take(pa.array(image)),
            'Source': pa.repeat('xclick', num),
            'LabelName': texts.take(pa.array(label)),
            'Confidence': np.ones(num, dtype=np.int8),
            'XMin': box[:, 0],
            'XMax': box[:, 2],
            'YMin': box[:, 1],
            'YMax': box[:, 3],
            'IsOccluded': flag[0],
            'IsTruncated': flag[1],
            'IsGroupOf': group,
            'IsDepiction': none,
            'IsInside': none,
        }
    )
    facts = np.repeat(np.arange(len(size)), 5)
    fact_label = np.searchsorted(classes, rng.random(len(facts)))
    label_table = pa.table(
        {
            'ImageID': ids.take(pa.array(facts)),
            'Source': pa.repeat('verification', len(facts)),
            'LabelName': texts.take(pa.array(fact_label.clip(max=NUM_CLASSES - 1))),
            'Confidence': rng.integers(0, 2, len(facts)).astype(np.int8),
        }
    )
    return box_table, label_table


def cut(source: Path, folder: Path, num_boxes: int) -> None:
    """The first rows of the generated files, and the pickle that the host asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {}
    with open(source / 'boxes.csv') as file, open(folder / 'boxes.csv', 'w') as out:
        for k, line in enumerate(file):
            if k > num_boxes:
                break
            out.write(line)
            if k:
                ids[line[:16]] = None
    for name in ('classes.csv', 'hierarchy.json'):
        (folder / name).write_bytes((source / name).read_bytes())
    metas = [dict(filename=f'{i}.jpg', ori_shape=(768, 1024, 3)) for i in ids]
    (folder / 'metas.pkl').write_bytes(pickle.dumps(metas))
    with open(folder / 'labels.csv', 'w') as out:
        out.write('ImageID,Source,LabelName,Confidence\n')
