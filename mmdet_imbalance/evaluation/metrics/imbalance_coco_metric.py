"""COCO AP with AP by frequency group, for any detection dataset.

Lin et al., "Microsoft COCO", ECCV 2014, https://arxiv.org/abs/1405.0312; groups of
Gupta et al., "LVIS", CVPR 2019, https://arxiv.org/abs/1908.03195, section 5.

Shapes: C classes. Deviations from the host's CocoMetric: same values (bit-equal to
pycocotools), but classes are matched to the annotation by name and not by the order
of the file; a class without ground truth is in no average; -1 is the average over
nothing (a group without classes); boxes only, no masks.
"""

from collections.abc import Sequence

import numpy as np

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation.coco_ap import (
    COCO_IOU_THRS,
    coco_average_precision,
    summarize,
)
from mmdet_imbalance.evaluation.freq_groups import resolve_freq_group
from mmdet_imbalance.evaluation.metrics.detection_metric import (
    DetectionMetric,
    Gathered,
)
from mmdet_imbalance.registry import METRICS


@METRICS.register_module()
class ImbalanceCocoMetric(DetectionMetric):
    """AP, AP50, AP75, APs/m/l, APr/c/f, AR and, if asked for, the AP of each class.

    Keys are `coco/AP` and so on, values in [0, 1]. `CheckpointHook` does not know
    the name: `save_best='coco/AP', rule='greater'`.

    Args:
        ann_file: COCO JSON of the evaluated images; None takes the ground truth from
            the data samples, so that datasets without such a file work.
        class_stats: statistics of the *training* set that define the groups, or the
            file that `tools/class_stats.py` wrote; None leaves them to
            `ClassStatsHook`, and without it to the field `frequency` of `ann_file`.
            Without any source there is no AP by group.
        freq_thresholds: the most training images of a rare and of a common class;
            None keeps the groups of the statistics (LVIS: 10, 100).
        expand_ancestors: every annotated box counts for all ancestors of its class;
            needs `ancestor_matrix` in the metainfo of the dataset.
        expand_detections: the same for detections.
        classwise: log a table of all classes and return `AP_<class>`.
        iou_thrs: IoU thresholds; None for 0.5, 0.55, ... 0.95.
        max_dets: the best so many detections of a class in an image count.
        only_evaluated_images: leave out images of `ann_file` that were not evaluated
            (a run over a part of the data); otherwise their objects are missed.
        outfile_prefix: writes `PREFIX.bbox.json` and `PREFIX.gt.json`, which
            `tools/analyze.py` and `tools/compare.py` read.
        collect_device: 'cpu' or 'gpu', where ranks meet.
        prefix: first part of the metric names; None for 'coco'.
    """

    default_prefix = 'coco'

    def __init__(
        self,
        ann_file: str | None = None,
        class_stats: ClassStats | str | None = None,
        freq_thresholds: Sequence[int] | None = None,
        expand_ancestors: bool = False,
        expand_detections: bool = False,
        classwise: bool = False,
        iou_thrs: Sequence[float] | None = None,
        max_dets: int = 100,
        only_evaluated_images: bool = False,
        outfile_prefix: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            class_stats=class_stats,
            only_evaluated_images=only_evaluated_images,
            outfile_prefix=outfile_prefix,
            collect_device=collect_device,
            prefix=prefix,
        )
        if max_dets < 1:
            raise ValueError(f'`max_dets` must be at least 1, got {max_dets}')
        if iou_thrs is not None and not all(0 < thr < 1 for thr in iou_thrs):
            raise ValueError(f'`iou_thrs` must be in (0, 1), got {list(iou_thrs)}')
        self.freq_thresholds = freq_thresholds
        self.expand_ancestors = expand_ancestors
        self.expand_detections = expand_detections
        self.classwise = classwise
        self.iou_thrs = COCO_IOU_THRS if iou_thrs is None else np.sort(iou_thrs)
        self.max_dets = max_dets

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Figures of all gathered images (called by the host on the main rank)."""
        gt, detections = self.expand(self.gather(results))
        freq_group = resolve_freq_group(
            self.class_names, self.class_stats, gt.freq_group, self.freq_thresholds
        )
        self.dump(gt, detections, freq_group)
        result = coco_average_precision(gt, detections, self.iou_thrs, self.max_dets)
        figures = summarize(result, freq_group)
        if self.classwise:
            figures |= self.log_classes(result, freq_group, gt.labels)
        return figures

    def expand(self, gathered: Gathered) -> Gathered:
        """Give ground truth and detections their ancestors, as far as asked for."""
        if not (self.expand_ancestors or self.expand_detections):
            return gathered
        matrix = self.ancestor_matrix
        if matrix is None:
            raise ValueError(
                '`expand_ancestors` and `expand_detections` need `ancestor_matrix` in '
                'the metainfo of the dataset; wrap it in '
                'mmdet_imbalance.ClassHierarchyDataset'
            )
        gt, detections = gathered
        return Gathered(
            gt.expand(matrix) if self.expand_ancestors else gt,
            detections.expand(matrix) if self.expand_detections else detections,
        )
