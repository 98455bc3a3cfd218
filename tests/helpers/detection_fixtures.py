"""Random ground truth and detections with everything that breaks evaluators.

Ties of scores, duplicates, crowd boxes, classes with only boxes or only detections,
images without either, category and image ids with gaps.
"""

import numpy as np
import torch


def random_coco(seed, num_images=30, num_classes=6, num_boxes=150, crowd=0.1):
    """A COCO annotation; the last class has no box, the one before no detection."""
    rng = np.random.default_rng(seed)
    images = [
        {'id': 3 * i + 5, 'width': 640, 'height': 480, 'file_name': f'{i}.jpg'}
        for i in rng.permutation(num_images).tolist()
    ]
    categories = [
        {'id': 2 * c + 1, 'name': f'class{c}', 'frequency': 'rcf'[c % 3]}
        for c in rng.permutation(num_classes).tolist()
    ]
    by_name = sorted(categories, key=lambda c: c['name'])
    boxes = np.concatenate(
        [rng.uniform(0, 400, (num_boxes, 2)), rng.uniform(4, 230, (num_boxes, 2))], 1
    ).astype(np.float32)
    # Some are small, some equal.
    boxes[::5, 2:] = rng.uniform(3, 28, boxes[::5, 2:].shape)
    boxes[7::20] = boxes[6::20][: len(boxes[7::20])]
    image_of = rng.integers(0, num_images - 2, num_boxes)
    image_of[7::20] = image_of[6::20][: len(image_of[7::20])]
    class_of = rng.integers(0, num_classes - 1, num_boxes)
    annotations = [
        {
            'id': n + 1,
            'image_id': images[image_of[n]]['id'],
            'category_id': by_name[class_of[n]]['id'],
            'bbox': [float(v) for v in boxes[n]],
            'area': float(boxes[n, 2] * boxes[n, 3] * (0.6 if n % 3 else 1.0)),
            'iscrowd': int(rng.random() < crowd),
        }
        for n in range(num_boxes)
    ]
    return {'images': images, 'categories': categories, 'annotations': annotations}


def class_names(coco):
    """Names in the order of the labels: alphabetical, not that of the ids."""
    return tuple(sorted(category['name'] for category in coco['categories']))


def random_predictions(coco, seed, num=900, num_scores=12):
    """Detections near boxes and far from them by image id: (xyxy, scores, labels)."""
    rng = np.random.default_rng(seed)
    names = class_names(coco)
    label_of = {c['id']: names.index(c['name']) for c in coco['categories']}
    annotations = coco['annotations']
    source = rng.integers(0, len(annotations), num)
    xywh = np.array([annotations[s]['bbox'] for s in source])
    xywh[:, :2] += rng.normal(0, 0.08, (num, 2)) * xywh[:, 2:]
    xywh[:, 2:] *= np.exp(rng.normal(0, 0.1, (num, 2)))
    labels = np.array([label_of[annotations[s]['category_id']] for s in source])
    wrong = rng.random(num) < 0.2
    labels[wrong] = rng.integers(0, len(names), wrong.sum())
    labels[labels == len(names) - 2] = len(names) - 1
    scores = rng.integers(1, num_scores, num) / num_scores
    image = np.array([annotations[s]['image_id'] for s in source])
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    xyxy, scores = xyxy.astype(np.float32), scores.astype(np.float32)
    return {
        entry['id']: tuple(a[image == entry['id']] for a in (xyxy, scores, labels))
        for entry in coco['images']
    }


def to_samples(coco, predictions, ground_truth=None):
    """Data samples as the host hands them to a metric.

    `ground_truth`: None, 'instances' (raw) or 'gt_instances' (packed).
    """
    names = class_names(coco)
    label_of = {c['id']: names.index(c['name']) for c in coco['categories']}
    samples = []
    for entry in coco['images']:
        boxes, scores, labels = predictions[entry['id']]
        sample = {
            'img_id': entry['id'],
            'img_path': entry['file_name'],
            'ori_shape': (entry['height'], entry['width']),
            'pred_instances': {
                'bboxes': torch.as_tensor(boxes),
                'scores': torch.as_tensor(scores),
                'labels': torch.as_tensor(labels),
            },
        }
        rows = [a for a in coco['annotations'] if a['image_id'] == entry['id']]
        instances = [
            {
                'bbox': to_xyxy(row['bbox']),
                'bbox_label': label_of[row['category_id']],
                'ignore_flag': row.get('iscrowd', 0),
            }
            for row in rows
        ]
        if ground_truth == 'instances':
            sample['instances'] = instances
        elif ground_truth == 'gt_instances':
            for name, flag in (('gt_instances', 0), ('ignored_instances', 1)):
                some = [row for row in instances if row['ignore_flag'] == flag]
                sample[name] = {
                    'bboxes': torch.tensor(
                        [row['bbox'] for row in some], dtype=torch.float64
                    ).reshape(-1, 4),
                    'labels': torch.tensor(
                        [row['bbox_label'] for row in some], dtype=torch.int64
                    ),
                }
        samples.append(sample)
    return samples


def to_xyxy(box):
    x, y, w, h = box
    return [x, y, x + w, y + h]


def run_metric(metric, samples, names, batch_size=4, **metainfo):
    """What the runner does with a metric."""
    metric.dataset_meta = {'classes': names, **metainfo}
    for start in range(0, len(samples), batch_size):
        metric.process({}, samples[start : start + batch_size])
    return metric.evaluate(len(samples))
