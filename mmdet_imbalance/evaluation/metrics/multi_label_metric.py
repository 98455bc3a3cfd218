"""What AP by class does not show: labels of one object that take from each other.

Measures in `evaluation/multi_label_ap.py` and `evaluation/score_calibration.py`.

Shapes: C classes. Deviations: none (measures of our own).
"""

from collections.abc import Sequence

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation.coco_ap import coco_average_precision
from mmdet_imbalance.evaluation.freq_groups import GROUPS, resolve_freq_group
from mmdet_imbalance.evaluation.matching import match_detections
from mmdet_imbalance.evaluation.metrics.imbalance_coco_metric import (
    ImbalanceCocoMetric,
)
from mmdet_imbalance.evaluation.multi_label_ap import (
    concurrency_figures,
    label_scores,
)
from mmdet_imbalance.evaluation.score_calibration import calibration
from mmdet_imbalance.registry import METRICS


@METRICS.register_module()
class MultiLabelDetectionMetric(ImbalanceCocoMetric):
    """`multi_label/AP` over all labels of all objects, concurrency, calibration.

    A box with a label set is judged for each of its labels; with `expand_ancestors`
    (the default where the dataset has a hierarchy) also for their ancestors. Keys:
    AP, AP50, APr/c/f; `first_score`, `second_score`, `second_given_first`,
    `worst_score`, `all_labels_recall`, `single_score`, `concurrent_objects` (see
    `concurrency_figures`); `calibration_error` and, with groups,
    `calibration_error_r/c/f`. -1 stands for an average over nothing.

    Args:
        ann_file: COCO JSON of the evaluated images; None takes the ground truth from
            the data samples.
        class_stats: statistics of the *training* set that define the groups.
        freq_thresholds: the most training images of a rare and of a common class.
        expand_ancestors: judge a box for the ancestors of its labels; None: if the
            dataset has a hierarchy.
        iou_thr: overlap from which on a detection speaks about an object.
        score_thr: from which score on a label counts for `all_labels_recall`.
        num_bins: bins of the calibration error.
        max_dets: the best so many detections of a class in an image count.
        only_evaluated_images: leave out images of `ann_file` that were not evaluated.
        outfile_prefix: writes `PREFIX.bbox.json` and `PREFIX.gt.json`.
        collect_device: 'cpu' or 'gpu', where ranks meet.
        prefix: first part of the metric names; None for 'multi_label'.
    """

    default_prefix = 'multi_label'

    def __init__(
        self,
        ann_file: str | None = None,
        class_stats: ClassStats | str | None = None,
        freq_thresholds: Sequence[int] | None = None,
        expand_ancestors: bool | None = None,
        iou_thr: float = 0.5,
        score_thr: float = 0.5,
        num_bins: int = 10,
        max_dets: int = 100,
        only_evaluated_images: bool = False,
        outfile_prefix: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            class_stats=class_stats,
            freq_thresholds=freq_thresholds,
            max_dets=max_dets,
            only_evaluated_images=only_evaluated_images,
            outfile_prefix=outfile_prefix,
            collect_device=collect_device,
            prefix=prefix,
        )
        if not 0 < iou_thr < 1:
            raise ValueError(f'`iou_thr` must be in (0, 1), got {iou_thr}')
        if num_bins < 1:
            raise ValueError(f'`num_bins` must be at least 1, got {num_bins}')
        self._expand = expand_ancestors
        self.iou_thr = iou_thr
        self.score_thr = score_thr
        self.num_bins = num_bins

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Figures of all gathered images (called by the host on the main rank)."""
        has_tree = self.ancestor_matrix is not None
        self.expand_ancestors = has_tree if self._expand is None else self._expand
        gt, detections = self.expand(self.gather(results))
        freq_group = resolve_freq_group(
            self.class_names, self.class_stats, gt.freq_group, self.freq_thresholds
        )
        self.dump(gt, detections, freq_group)
        result = coco_average_precision(gt, detections, max_dets=self.max_dets)
        figures = {'AP': result.ap(), 'AP50': result.ap(0.5)}
        scores = label_scores(gt, detections, self.iou_thr)
        figures |= concurrency_figures(scores, self.score_thr)
        matches = match_detections(gt, detections, self.iou_thr, self.max_dets)
        judged = ~matches.ignored

        def error(rows):
            kept = detections.scores[rows], matches.is_true[rows]
            return calibration(*kept, self.num_bins).expected_error

        figures['calibration_error'] = error(judged)
        if freq_group is not None:
            for group in GROUPS:
                of_group = freq_group == group
                figures[f'AP{group}'] = result.ap(classes=of_group)
                figures[f'calibration_error_{group}'] = error(
                    judged & of_group[detections.labels]
                )
        return figures
