"""pycocotools as the oracle of COCO figures, fed with plain dictionaries."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def coco_results(coco, predictions, names):
    """Detections as COCO's list, from (xyxy, scores, labels) by image id."""
    cat_id = {c['name']: c['id'] for c in coco['categories']}
    rows = []
    for image_id in sorted(predictions):
        for box, score, label in zip(*predictions[image_id], strict=True):
            x1, y1, x2, y2 = (float(v) for v in box)
            rows.append(
                {
                    'image_id': image_id,
                    'category_id': cat_id[names[int(label)]],
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                    'score': float(score),
                }
            )
    return rows


def coco_figures(coco, results, names, max_dets=100):
    """Figures under our names, and AP by class name, from pycocotools only."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = coco
        gt.createIndex()
        evaluation = COCOeval(gt, gt.loadRes(results), 'bbox')
        evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval['precision'][..., 0]
    recall = evaluation.eval['recall'][..., 0]

    def mean(values):
        values = values[values > -1]
        return float(np.mean(values)) if values.size else -1.0

    cat_ids = evaluation.params.catIds
    frequency = {c['id']: c.get('frequency') for c in coco['categories']}
    name = {c['id']: c['name'] for c in coco['categories']}
    figures = {
        'AP': mean(precision[..., 0]),
        'AP50': mean(precision[:1, ..., 0]),
        'AP75': mean(precision[5:6, ..., 0]),
        'APs': mean(precision[..., 1]),
        'APm': mean(precision[..., 2]),
        'APl': mean(precision[..., 3]),
        'AR': mean(recall[..., 0]),
    }
    for group in 'rcf':
        ks = [k for k, i in enumerate(cat_ids) if frequency[i] == group]
        figures[f'AP{group}'] = mean(precision[:, :, ks, 0])
    per_class = {name[i]: mean(precision[:, :, k, 0]) for k, i in enumerate(cat_ids)}
    return figures, per_class
