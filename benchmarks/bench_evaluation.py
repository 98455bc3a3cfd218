"""Speed of the metrics against the host's and the official evaluators.

Generated detections, whole metrics (process and evaluate), a process for each:
    python benchmarks/bench_evaluation.py
prints seconds, peak memory and the ratio. `--only NAME` runs one comparison.
"""

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NUM_OID_CLASSES = 601
NUM_LVIS_CLASSES = 1203
NUM_OID_VAL_IMAGES = 41_620
DETECTIONS = 300


def random_tree(rng, num_classes, depth=5):
    """[child, ancestor]: about 7 % of the classes have two parents, depth at most 5."""
    matrix = np.eye(num_classes, dtype=bool)
    level = np.zeros(num_classes, dtype=int)
    for c in range(20, num_classes):
        above = np.flatnonzero(level[:c] < depth - 1)
        for parent in rng.choice(above, 1 + (rng.random() < 0.07)):
            matrix[c] |= matrix[parent]
            level[c] = max(level[c], level[parent] + 1)
    return matrix


def random_sample(rng, index, num_classes, class_prob, num_detections):
    """Data sample of one image: long-tailed boxes, detections near and far."""
    import torch

    num = int(rng.integers(1, 15))
    box = rng.uniform(0, 500, (num, 4))
    box[:, 2:] = box[:, :2] + rng.uniform(10, 300, (num, 2))
    label = rng.choice(num_classes, num, p=class_prob)
    source = rng.integers(0, num, num_detections)
    found = box[source] + rng.normal(0, 8, (num_detections, 4))
    other = rng.integers(0, num_classes, num_detections)
    found_label = np.where(rng.random(num_detections) < 0.5, label[source], other)
    verified = rng.integers(0, num_classes, 8)
    return {
        'img_id': index + 1,
        'img_path': f'{index}.jpg',
        'ori_shape': (800, 800),
        'instances': [
            {
                'bbox': b.tolist(),
                'bbox_label': int(c),
                'ignore_flag': 0,
                'is_group_of': bool(rng.random() < 0.06),
            }
            for b, c in zip(box, label, strict=True)
        ],
        'verified_pos': verified[:3],
        'verified_neg': verified[3:],
        'not_exhaustive': [],
        'image_level_labels': verified,
        'pred_instances': {
            'bboxes': torch.as_tensor(found.astype(np.float32)),
            'scores': torch.as_tensor(rng.random(num_detections, dtype=np.float32)),
            'labels': torch.as_tensor(found_label),
        },
    }


class Clock:
    """Seconds by the wall and of all CPUs, child processes included."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def __enter__(self):
        self._start = time.perf_counter(), sum(os.times()[:4])

    def __exit__(self, *error):
        self.wall += time.perf_counter() - self._start[0]
        self.cpu += sum(os.times()[:4]) - self._start[1]


def run(metric, num_images, num_classes, meta, num_detections=DETECTIONS):
    """Seconds in the metric; making the samples is not counted."""
    rng = np.random.default_rng(0)
    prob = 1 / np.arange(1, num_classes + 1)
    prob /= prob.sum()
    metric.dataset_meta = {
        'classes': tuple(f'c{c}' for c in range(num_classes)),
        **meta,
    }
    clock = Clock()
    for index in range(num_images):
        sample = random_sample(rng, index, num_classes, prob, num_detections)
        with clock:
            metric.process({}, [sample])
    with clock:
        figures = metric.evaluate(num_images)
    return clock, figures


def oid_ours(num_images=400):
    from mmdet_imbalance.evaluation import ImbalanceOpenImagesMetric

    tree = random_tree(np.random.default_rng(1), NUM_OID_CLASSES)
    metric = ImbalanceOpenImagesMetric(expand_detections=True)
    return run(metric, num_images, NUM_OID_CLASSES, {'ancestor_matrix': tree})


def oid_host(num_images=400):
    from mmdet.evaluation import OpenImagesMetric

    tree = random_tree(np.random.default_rng(1), NUM_OID_CLASSES)
    meta = {'RELATION_MATRIX': tree, 'dataset_type': 'oid_v6'}
    return run(OpenImagesMetric(), num_images, NUM_OID_CLASSES, meta)


def oid_full():
    return oid_ours(NUM_OID_VAL_IMAGES)


def _lvis_files(folder, num_images):
    """Annotation and results, as both evaluators read them from disk."""
    rng = np.random.default_rng(0)
    prob = 1 / np.arange(1, NUM_LVIS_CLASSES + 1)
    prob /= prob.sum()
    images, annotations, results = [], [], []
    for index in range(num_images):
        sample = random_sample(rng, index, NUM_LVIS_CLASSES, prob, DETECTIONS)
        absent = set(sample['verified_neg'].tolist())
        absent -= {row['bbox_label'] for row in sample['instances']}
        images.append(
            {
                'id': index + 1,
                'width': 800,
                'height': 800,
                'neg_category_ids': sorted(c + 1 for c in absent),
                'not_exhaustive_category_ids': [],
            }
        )
        for row in sample['instances']:
            x1, y1, x2, y2 = row['bbox']
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': index + 1,
                    'category_id': row['bbox_label'] + 1,
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'area': (x2 - x1) * (y2 - y1),
                    'segmentation': [],
                }
            )
        pred = {k: v.tolist() for k, v in sample['pred_instances'].items()}
        for (x1, y1, x2, y2), score, label in zip(
            pred['bboxes'], pred['scores'], pred['labels'], strict=True
        ):
            results.append(
                {
                    'image_id': index + 1,
                    'category_id': label + 1,
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'score': score,
                }
            )
    categories = [
        {'id': c + 1, 'name': f'c{c}', 'frequency': 'fcr'[c % 3]}
        for c in range(NUM_LVIS_CLASSES)
    ]
    annotation = {
        'images': images,
        'categories': categories,
        'annotations': annotations,
    }
    paths = Path(folder, 'ann.json'), Path(folder, 'results.json')
    paths[0].write_text(json.dumps(annotation))
    paths[1].write_text(json.dumps(results))
    return paths


def lvis_ours(num_images=400):
    from mmdet_imbalance.evaluation.coco_ap import summarize
    from mmdet_imbalance.evaluation.lvis_ap import lvis_average_precision
    from mmdet_imbalance.evaluation.results_file import read_results_pair

    with tempfile.TemporaryDirectory() as folder:
        annotation, results = _lvis_files(folder, num_images)
        with (clock := Clock()):
            gt, detections = read_results_pair(results, annotation)
            result = lvis_average_precision(gt, detections)
            figures = summarize(result, gt.freq_group)
        return clock, figures


def lvis_api(num_images=400):
    from lvis import LVISEval

    if 'float' not in np.__dict__:
        np.float = float
    logging.getLogger('lvis').setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        annotation, results = _lvis_files(folder, num_images)
        with (clock := Clock()):
            evaluation = LVISEval(str(annotation), str(results), 'bbox')
            evaluation.run()
        return clock, dict(evaluation.results)


def coco_ours(num_images=2000):
    from mmdet_imbalance.evaluation import ImbalanceCocoMetric

    return run(ImbalanceCocoMetric(), num_images, 80, {}, 100)


def coco_host(num_images=2000):
    from mmdet.evaluation import CocoMetric

    return run(CocoMetric(), num_images, 80, {}, 100)


#: Name: (what, ours, reference or None, figure to compare, its name there).
COMPARISONS = {
    'open-images': ('400 images x 601 classes', oid_ours, oid_host, 'mAP', 'mAP'),
    'open-images-val': ('41,620 images x 601 classes', oid_full, None, 'mAP', ''),
    'lvis': ('400 images x 1203 classes, files', lvis_ours, lvis_api, 'AP', 'AP'),
    'coco': ('2000 images x 80 classes', coco_ours, coco_host, 'AP', 'bbox_mAP'),
}


def _child(function, queue):
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        clock, figures = function()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    figures = {k.split('/')[-1]: float(v) for k, v in figures.items()}
    queue.put((clock.wall, clock.cpu, peak, figures))


def measure(function):
    """Wall and CPU seconds, peak memory in GiB and figures; a process of its own."""
    # Forked while it is small: the parent imports no torch, and the host's own pools
    # start as they do in a training.
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    process = context.Process(target=_child, args=(function, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', choices=list(COMPARISONS), action='append')
    args = parser.parse_args(argv)
    print('wall s (CPU s, peak GiB), ours | reference | wall, CPU ratio | AP of both')
    for name in args.only or COMPARISONS:
        what, ours, reference, key, reference_key = COMPARISONS[name]
        wall, cpu, peak, figures = measure(ours)
        line = f'{name:16} {what:34} {wall:7.2f} ({cpu:.2f}, {peak:.2f})'
        if reference is not None:
            other_wall, other_cpu, other_peak, others = measure(reference)
            line += f' | {other_wall:7.2f} ({other_cpu:.2f}, {other_peak:.2f})'
            line += f' | {other_wall / wall:.0f}x, {other_cpu / cpu:.0f}x'
            line += f' | {figures[key]:.4f} {others[reference_key]:.4f}'
        print(line, flush=True)


if __name__ == '__main__':
    sys.exit(main())
