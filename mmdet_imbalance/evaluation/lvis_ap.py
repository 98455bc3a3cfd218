"""LVIS average precision: federated annotation, and AP with a limit by class.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019,
https://arxiv.org/abs/1908.03195, section 3: a class is judged in the images where it
was annotated or verified to be absent; where it was not annotated exhaustively,
unmatched detections are no false positives. As in lvis-api (and nowhere in the text),
boxes without area, annotated or detected, are left out, and there are no crowd boxes.

Fixed AP: Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in
the Details", https://arxiv.org/abs/2102.01066, section 4: the best 10,000 detections of
a class over all images in place of the best 300 of an image over all classes, so that
classes do not compete for places.

Shapes: C classes, D detections. Computed by `hotcoco`. Deviations: none.
"""

from dataclasses import replace

import hotcoco
import numpy as np

from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth
from mmdet_imbalance.evaluation.coco_ap import (
    COCO_IOU_THRS,
    CocoAP,
    to_hotcoco,
    to_hotcoco_rows,
)

#: Of the paper on fixed AP, section 4.
FIXED_AP_MAX_DETS = 10_000
FEDERATED_KEYS = ('neg_category_ids', 'not_exhaustive_category_ids')


def lvis_average_precision(
    gt: GroundTruth,
    detections: Detections,
    max_dets: int | None = 300,
    max_dets_per_class: int | None = None,
) -> CocoAP:
    """Evaluate detections as lvis-api does.

    Args:
        gt: ground truth whose images have `neg_category_ids` and
            `not_exhaustive_category_ids`.
        detections: at equal scores the order within an image decides.
        max_dets: the best so many detections of an image count; None for all.
        max_dets_per_class: the best so many detections of a class over all images
            count; None for all.

    Raises:
        ValueError: an image without its federated fields.
    """
    for image in gt.images:
        missing = [key for key in FEDERATED_KEYS if key not in image]
        if missing:
            raise ValueError(
                f'image {image["id"]} has no {missing}: this is no LVIS annotation. '
                'For exhaustively annotated data use ImbalanceCocoMetric.'
            )
    if max_dets is not None:
        detections = best_of_each(detections, detections.image_index, max_dets)
    if max_dets_per_class is not None:
        detections = best_of_each(detections, detections.labels, max_dets_per_class)
    # After the limits: a box without area takes a place in an image all the same.
    gt = gt.select_boxes(gt.areas > 0)
    no_crowd = np.zeros(len(gt.labels), dtype=bool)
    gt = replace(gt, is_crowd=no_crowd, is_group_of=no_crowd)
    detections = detections.take(detections.boxes[:, 2] * detections.boxes[:, 3] > 0)
    coco_gt = to_hotcoco(gt)
    # The limits were applied above; the evaluator's own two (of an image when results
    # are loaded, of a class in an image when they are judged) must not bite.
    coco_dt = hotcoco.LVISResults(coco_gt, to_hotcoco_rows(gt, detections), None)
    evaluator = hotcoco.COCOeval(coco_gt, coco_dt, 'bbox', lvis_style=True)
    params = evaluator.params
    params.max_dets = [len(detections) + 1]
    evaluator.params = params
    evaluator.evaluate()
    evaluator.accumulate()
    return CocoAP(
        iou_thrs=COCO_IOU_THRS,
        precision=evaluator.eval['precision'][..., 0],
        recall=evaluator.eval['recall'][..., 0],
        label_order=np.argsort(gt.category_ids),
    )


def best_of_each(detections: Detections, group: np.ndarray, limit: int) -> Detections:
    """Keep the best-scored rows of every group; of equal scores the first ones.

    Args:
        detections: D rows.
        group: group of each row, shape (D,).
        limit: number of rows a group keeps.
    """
    order = np.lexsort((-detections.scores, group))
    sorted_group = group[order]
    start = np.searchsorted(sorted_group, sorted_group)
    keep = order[np.arange(len(order)) - start < limit]
    return detections.take(np.sort(keep))
