"""LVIS AP with its three frequency groups, and fixed AP.

Gupta et al., "LVIS", CVPR 2019, https://arxiv.org/abs/1908.03195; fixed AP: Dave et
al., https://arxiv.org/abs/2102.01066. Rules in `evaluation/lvis_ap.py`.

Shapes: C classes. Deviations from the host's LVISMetric: evaluation over a part of the
images works; ground truth may come from the data samples; boxes only, no masks. Values
are those of lvis-api.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation.boxes import GroundTruth
from mmdet_imbalance.evaluation.coco_ap import summarize
from mmdet_imbalance.evaluation.freq_groups import resolve_freq_group
from mmdet_imbalance.evaluation.lvis_ap import (
    FEDERATED_KEYS,
    FIXED_AP_MAX_DETS,
    lvis_average_precision,
)
from mmdet_imbalance.evaluation.metrics.detection_metric import DetectionMetric
from mmdet_imbalance.registry import METRICS


@METRICS.register_module()
class ImbalanceLVISMetric(DetectionMetric):
    """`lvis/AP`, AP50, AP75, APs/m/l, APr/c/f, AR, with `fixed_ap` also `fixed_AP...`.

    Values are in [0, 1], -1 for an average over nothing. The groups are those that the
    annotation states (`frequency`); only where it states none, or with
    `freq_thresholds`, those of the training statistics. For fixed AP the detector has
    to keep many detections: `test_cfg` with `score_thr=0` and a large `max_per_img`.

    Args:
        ann_file: LVIS JSON of the evaluated images; None takes the ground truth from
            the data samples, with the labels `verified_neg` and `not_exhaustive` of
            each image in their metainfo.
        max_dets: the best so many detections of an image count; None for all.
        fixed_ap: evaluate also without a limit by image and with one by class.
        max_dets_per_class: that limit, over all images. The paper uses 10,000.
        class_stats: statistics of the *training* set, or their file; None leaves them
            to `ClassStatsHook`.
        freq_thresholds: the most training images of a rare and of a common class.
        classwise: log a table of all classes and return `AP_<class>`.
        only_evaluated_images: leave out images of `ann_file` that were not evaluated;
            otherwise their objects are missed.
        outfile_prefix: writes `PREFIX.bbox.json` and `PREFIX.gt.json`.
        collect_device: 'cpu' or 'gpu', where ranks meet.
        prefix: first part of the metric names; None for 'lvis'.
    """

    default_prefix = 'lvis'

    def __init__(
        self,
        ann_file: str | None = None,
        max_dets: int | None = 300,
        fixed_ap: bool = False,
        max_dets_per_class: int = FIXED_AP_MAX_DETS,
        class_stats: ClassStats | str | None = None,
        freq_thresholds: Sequence[int] | None = None,
        classwise: bool = False,
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
        for name, value in (
            ('max_dets', max_dets),
            ('max_dets_per_class', max_dets_per_class),
        ):
            if value is not None and value < 1:
                raise ValueError(f'`{name}` must be at least 1 (or None), got {value}')
        self.max_dets = max_dets
        self.fixed_ap = fixed_ap
        self.max_dets_per_class = max_dets_per_class
        self.freq_thresholds = freq_thresholds
        self.classwise = classwise

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Figures of all gathered images (called by the host on the main rank)."""
        gt, detections = self.gather(results)
        gt = _with_federated_fields(gt) if self.ann_file is None else gt
        freq_group = self._freq_group(gt)
        self.dump(gt, detections, freq_group)
        result = lvis_average_precision(gt, detections, self.max_dets)
        figures = summarize(result, freq_group)
        if self.fixed_ap:
            fixed = lvis_average_precision(
                gt, detections, None, self.max_dets_per_class
            )
            figures |= {
                f'fixed_{key}': value
                for key, value in summarize(fixed, freq_group).items()
            }
        if self.classwise:
            figures |= self.log_classes(result, freq_group, gt.labels)
        return figures

    def _freq_group(self, gt: GroundTruth) -> np.ndarray | None:
        stated = gt.freq_group
        if stated is not None and (stated != '').all() and not self.freq_thresholds:
            return stated
        return resolve_freq_group(
            self.class_names, self.class_stats, stated, self.freq_thresholds
        )


def _with_federated_fields(gt: GroundTruth) -> GroundTruth:
    """Verified labels of the data samples as the category ids of an annotation."""
    images = []
    for image in gt.images:
        if 'verified_neg' not in image:
            raise ValueError(
                f'image {image["img_id"]!r} has no `verified_neg`: give the metric '
                "`ann_file=...`, or add 'verified_neg' and 'not_exhaustive' to "
                '`meta_keys` of PackDetInputs'
            )
        labels = (image['verified_neg'], image.get('not_exhaustive', []))
        ids = [gt.category_ids[some].tolist() for some in labels]
        images.append({**image, **dict(zip(FEDERATED_KEYS, ids, strict=True))})
    return replace(gt, images=images)
