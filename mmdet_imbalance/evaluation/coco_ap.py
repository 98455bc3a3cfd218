"""COCO average precision, over all classes and by frequency group.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014,
https://arxiv.org/abs/1405.0312, and its evaluation code (pycocotools), computed by
`hotcoco`, which is bit-equal to it and some fifty times faster.

Shapes: C classes, T IoU thresholds, R recall thresholds. Deviations: none; classes
without ground truth are in no average, an average over nothing is -1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import hotcoco
import numpy as np

from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth
from mmdet_imbalance.evaluation.freq_groups import GROUPS

AREAS = {'all': 0, 's': 1, 'm': 2, 'l': 3}
COCO_IOU_THRS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class CocoAP:
    """Precision and recall of one evaluation.

    The tables keep the order of the category ids, in which pycocotools sums.

    Attributes:
        iou_thrs: shape (T,).
        precision: shape (T, R, C, 4), areas all, small, medium, large; -1 for a class
            without ground truth there.
        recall: largest recall, shape (T, C, 4); -1 as above.
        label_order: label of each class of the tables, shape (C,).
    """

    iou_thrs: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    label_order: np.ndarray

    def ap(
        self,
        iou_thr: float | None = None,
        area: str = 'all',
        classes: np.ndarray | None = None,
    ) -> float:
        """Mean precision; -1 where there is nothing to average.

        Args:
            iou_thr: one of the thresholds; None averages over all.
            area: 'all', 's', 'm' or 'l'.
            classes: mask over the labels to average over, shape (C,), bool; None for
                all of them.
        """
        return _mean_defined(self._select(self.precision, iou_thr, area, classes))

    def ar(self, area: str = 'all', classes: np.ndarray | None = None) -> float:
        """Mean of the largest recall; -1 where there is nothing to average."""
        return _mean_defined(self._select(self.recall, None, area, classes))

    def per_class(self, iou_thr: float | None = None, area: str = 'all') -> np.ndarray:
        """AP of each class, shape (C,); nan for a class without ground truth."""
        precision = self._select(self.precision, iou_thr, area, None)
        return self._by_label(precision.transpose(2, 0, 1))

    def per_class_recall(self) -> np.ndarray:
        """AR of each class, shape (C,); nan for a class without ground truth."""
        return self._by_label(self._select(self.recall, None, 'all', None).T)

    def _by_label(self, table: np.ndarray) -> np.ndarray:
        """Mean of each row in the order of the labels, shape (C,)."""
        # A class has ground truth for all thresholds or for none. Rows in memory order
        # are summed pairwise, as pycocotools' are.
        rows = np.ascontiguousarray(table)
        mean = rows.reshape(len(rows), -1).mean(axis=1)
        by_label = np.empty_like(mean)
        by_label[self.label_order] = np.where(mean < 0, np.nan, mean)
        return by_label

    def _select(self, table, iou_thr, area, classes):
        if area not in AREAS:
            raise ValueError(f'`area` must be one of {list(AREAS)}, got {area!r}')
        table = table[..., AREAS[area]]
        if iou_thr is not None:
            at = np.isclose(self.iou_thrs, iou_thr)
            if not at.any():
                raise ValueError(
                    f'`iou_thr` {iou_thr} was not evaluated; there are '
                    f'{self.iou_thrs.tolist()}'
                )
            table = table[at]
        return table if classes is None else table[..., classes[self.label_order]]


def coco_average_precision(
    gt: GroundTruth,
    detections: Detections,
    iou_thrs: Sequence[float] = COCO_IOU_THRS,
    max_dets: int = 100,
) -> CocoAP:
    """Evaluate detections as pycocotools does.

    Args:
        gt: ground truth; crowd and group-of boxes are neither found nor missed.
        detections: at equal scores the order within an image decides.
        iou_thrs: IoU thresholds, ascending.
        max_dets: the best so many detections of a class in an image count.
    """
    iou_thrs = np.asarray(iou_thrs, dtype=np.float64)
    coco_gt = to_hotcoco(gt)
    coco_dt = coco_gt.load_res(to_hotcoco_rows(gt, detections))
    evaluator = hotcoco.COCOeval(coco_gt, coco_dt, 'bbox')
    params = evaluator.params
    params.iou_thrs = iou_thrs.tolist()
    params.max_dets = [max_dets]
    evaluator.params = params
    evaluator.evaluate()
    evaluator.accumulate()
    return CocoAP(
        iou_thrs=iou_thrs,
        precision=evaluator.eval['precision'][..., 0],
        recall=evaluator.eval['recall'][..., 0],
        # The tables have the classes by category id.
        label_order=np.argsort(gt.category_ids),
    )


def to_hotcoco(gt: GroundTruth) -> hotcoco.COCO:
    """The evaluator's own form of the ground truth."""
    categories = [
        {'id': int(i), 'name': name}
        for i, name in zip(gt.category_ids, gt.class_names, strict=True)
    ]
    if gt.freq_group is not None:
        for category, group in zip(categories, gt.freq_group, strict=True):
            category['frequency'] = str(group)
    return hotcoco.COCO.from_arrays(
        gt.images,
        categories,
        gt.image_ids()[gt.image_index],
        gt.category_ids[gt.labels],
        gt.boxes,
        area=gt.areas,
        iscrowd=(gt.is_crowd | gt.is_group_of).astype(np.int64),
    )


def to_hotcoco_rows(gt: GroundTruth, detections: Detections) -> np.ndarray:
    """Rows (image id, x, y, w, h, score, category id), shape (D, 7), by image."""
    order = np.argsort(detections.image_index, kind='stable')
    detections = detections.take(order)
    return np.column_stack(
        [
            gt.image_ids()[detections.image_index],
            detections.boxes,
            detections.scores,
            gt.category_ids[detections.labels],
        ]
    ).reshape(-1, 7)


def summarize(result: CocoAP, freq_group: np.ndarray | None = None) -> dict[str, float]:
    """The figures of a training log: AP, AP50, AP75, APs/m/l, AR and APr/c/f.

    Args:
        result: an evaluation.
        freq_group: 'r', 'c' or 'f' of each class, shape (C,); None leaves them out.

    Returns:
        Figures in [0, 1]; -1 for an average over nothing.
    """
    figures = {'AP': result.ap()}
    for name, iou_thr in (('AP50', 0.5), ('AP75', 0.75)):
        if np.isclose(result.iou_thrs, iou_thr).any():
            figures[name] = result.ap(iou_thr)
    figures |= {f'AP{area}': result.ap(area=area) for area in 'sml'}
    if freq_group is not None:
        for group in GROUPS:
            figures[f'AP{group}'] = result.ap(classes=np.asarray(freq_group) == group)
    figures['AR'] = result.ar()
    return figures


def _mean_defined(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else -1.0
