"""Annotations and detections that evaluators stumble over, small and many.

One to thirty classes and one to twenty-five images; classes with boxes only or with
detections only; images without either; equal boxes, also of several classes; boxes
without area or beyond the image; more detections than an image may have; scores that
are all equal; ids without order and with gaps; unequal frequency groups.
"""

import numpy as np

from tests.helpers.detection_fixtures import to_xyxy

BOTH, BOXES_ONLY, DETECTIONS_ONLY = range(3)


def hostile_lvis(seed, crowd=0.0, flat_boxes=0.0):
    """An LVIS annotation and detections (xyxy, scores, labels) by image id.

    Labels number the classes by name, which is not the order of their ids.

    Args:
        seed: of everything.
        crowd: fraction of crowd boxes.
        flat_boxes: fraction of annotated boxes without area.
    """
    rng = np.random.default_rng(seed)
    num_classes, num_images = rng.choice([1, 2, 4, 11, 30]), rng.choice([1, 2, 7, 25])
    cat_ids = (rng.permutation(5 * num_classes)[:num_classes] + 1).tolist()
    groups = rng.choice(list('rcf'), num_classes, p=rng.dirichlet([1, 1, 1]))
    mode = rng.choice(3, num_classes, p=[0.7, 0.15, 0.15])
    mode[0] = BOTH
    images = [
        {'id': i, 'width': 640, 'height': 480, 'file_name': f'{i}.jpg'}
        for i in rng.permutation(10 * num_images)[:num_images].tolist()
    ]
    categories = [
        {'id': cat_id, 'name': f'class{k:03d}', 'frequency': str(group)}
        for k, (cat_id, group) in enumerate(zip(cat_ids, groups, strict=True))
    ]
    annotations, predictions = [], {}
    many = rng.random() < 0.25
    for image in images:
        rows = _boxes_of_image(rng, cat_ids, mode, crowd, flat_boxes)
        present = sorted({row['category_id'] for row in rows})
        image['neg_category_ids'] = [
            c for c in cat_ids if c not in present and rng.random() < 0.5
        ]
        image['not_exhaustive_category_ids'] = [
            c for c in present if rng.random() < 0.4
        ]
        for row in rows:
            row |= {'id': len(annotations) + 1, 'image_id': image['id']}
            annotations.append(row)
        predictions[image['id']] = _detections_of_image(rng, rows, cat_ids, mode, many)
    # An oracle refuses results without a row.
    box = np.array([to_xyxy([5, 5, 20, 20])], dtype=np.float32)
    first = predictions[images[0]['id']]
    last = (box, np.array([0.01], dtype=np.float32), np.array([0]))
    predictions[images[0]['id']] = tuple(
        np.concatenate(pair) for pair in zip(first, last, strict=True)
    )
    lvis = {'images': images, 'categories': categories, 'annotations': annotations}
    return lvis, predictions


def _boxes_of_image(rng, cat_ids, mode, crowd, flat_boxes):
    if rng.random() < 0.15:
        return []
    allowed = np.flatnonzero(mode != DETECTIONS_ONLY)
    rows = []
    for _ in range(int(rng.integers(0, 10))):
        size = rng.uniform(1, 200, 2) * rng.choice([0.1, 1])
        box = np.concatenate([rng.uniform(0, 300, 2), size])
        box = np.round(box) + 1 if rng.random() < 0.5 else box
        label = int(rng.choice(allowed))
        if rows and rng.random() < 0.15:
            box = np.array(rows[-1]['bbox'])
        if rng.random() < flat_boxes:
            box[2] = 0
        box = [float(v) for v in box.astype(np.float32)]
        rows.append(
            {
                'category_id': cat_ids[label],
                'bbox': box,
                'area': box[2] * box[3] * float(rng.choice([1, 0.5])),
                'iscrowd': int(rng.random() < crowd),
                'segmentation': [],
            }
        )
    return rows


def _detections_of_image(rng, rows, cat_ids, mode, many):
    num = int(rng.integers(0, 1200 if many else 60)) if rng.random() < 0.9 else 0
    boxes = np.concatenate(
        [rng.uniform(-40, 400, (num, 2)), rng.uniform(0, 200, (num, 2))], axis=1
    )
    labels = rng.choice(np.flatnonzero(mode != BOXES_ONLY), num)
    for k in np.flatnonzero(rng.random(num) < 0.7) if rows else ():
        row = rows[int(rng.integers(len(rows)))]
        boxes[k] = np.array(row['bbox']) + rng.normal(0, 6, 4) * (rng.random() < 0.7)
        label = cat_ids.index(row['category_id'])
        if mode[label] != BOXES_ONLY and rng.random() < 0.8:
            labels[k] = label
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 0)
    boxes[rng.random(num) < 0.04, 2] = 0
    xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    steps = rng.choice([1, 4, 50, 1000])
    scores = np.ceil(rng.random(num) * steps) / steps
    return xyxy.astype(np.float32), scores.astype(np.float32), labels
