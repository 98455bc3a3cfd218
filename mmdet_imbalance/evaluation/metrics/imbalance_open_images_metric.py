"""Open Images AP by the official protocols, with AP by frequency group.

Kuznetsova et al., "The Open Images Dataset V4", IJCV 2020,
https://arxiv.org/abs/1811.00982, section 5; rules in `evaluation/open_images_ap.py`.

Shapes: C classes. Deviations from the host's OpenImagesMetric, all towards the official
evaluator: image-level labels are expanded by the hierarchy (presence upwards, absence
downwards), detections without area are removed, V2 judges unverified classes too.
Detections are expanded only where asked for.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.logging import print_log

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation.boxes import GroundTruth
from mmdet_imbalance.evaluation.freq_groups import GROUPS, resolve_freq_group
from mmdet_imbalance.evaluation.metrics.data_sample import ImageRows
from mmdet_imbalance.evaluation.metrics.detection_metric import (
    DetectionMetric,
    Gathered,
)
from mmdet_imbalance.evaluation.open_images_ap import (
    ImageBatch,
    OpenImagesAP,
    OpenImagesEvaluator,
)
from mmdet_imbalance.evaluation.results_file import IMAGE_LEVEL_IDS
from mmdet_imbalance.evaluation.tables import text_table
from mmdet_imbalance.registry import METRICS

#: What is judged, and the weight of a group that was found.
PROTOCOLS = {'challenge': ('verified', 1.0), 'v2': ('all', 0.0)}
#: Detections judged at once; bounds the memory, changes no figure.
ROWS_A_BATCH = 100_000


@METRICS.register_module()
class ImbalanceOpenImagesMetric(DetectionMetric):
    """`openimages/mAP`, APr/c/f and, if asked for, the AP of each class, in [0, 1].

    The ground truth comes from the data samples: `instances` with `bbox_label`, `bbox`
    and `is_group_of` and the metainfo `verified_pos` and `verified_neg` (labels that
    were verified to be present or absent), all exactly as annotated: expansion is done
    here. So `meta_keys` of PackDetInputs has to name 'instances', 'verified_pos' and
    'verified_neg'. The host's dataset works too ('image_level_labels', 'confidences').
    Or it comes from `ann_file`.

    Args:
        protocol: 'challenge': only classes verified in the image are judged, a group
            that was found weighs 1. 'v2': all are judged, groups weigh 0.
        group_of_weight: weight of a group in place of that of the protocol.
        iou_thr: threshold of IoU, and of the overlap with groups.
        expand_ground_truth: give boxes and verified labels their ancestors (absence:
            descendants) by `ancestor_matrix` of the dataset; False where the
            annotation files were expanded beforehand.
        expand_detections: give detections their ancestors; for detectors that score
            only the most specific class.
        class_stats: statistics of the *training* set that define the groups, or their
            file; None leaves them to `ClassStatsHook`.
        freq_thresholds: the most training images of a rare and of a common class;
            None keeps the groups of the statistics.
        classwise: log a table of all classes and return `AP_<class>`.
        ann_file: COCO JSON of the evaluated images, whose annotations have
            `is_group_of` and whose images have `pos_category_ids` and
            `neg_category_ids`, verified to be present and absent: `PREFIX.gt.json` is
            such a file. None takes the ground truth from the data samples.
        only_evaluated_images: leave out images of `ann_file` that were not evaluated;
            otherwise their objects are missed.
        outfile_prefix: writes `PREFIX.bbox.json` and `PREFIX.gt.json`.
        collect_device: 'cpu' or 'gpu', where ranks meet.
        prefix: first part of the metric names; None for 'openimages'.
    """

    default_prefix = 'openimages'

    def __init__(
        self,
        protocol: str = 'challenge',
        group_of_weight: float | None = None,
        iou_thr: float = 0.5,
        expand_ground_truth: bool = True,
        expand_detections: bool = False,
        class_stats: ClassStats | str | None = None,
        freq_thresholds: Sequence[int] | None = None,
        classwise: bool = False,
        ann_file: str | None = None,
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
        if protocol not in PROTOCOLS:
            raise ValueError(
                f'`protocol` must be one of {list(PROTOCOLS)}, got {protocol!r}'
            )
        judge, weight = PROTOCOLS[protocol]
        self.settings = {
            'judge': judge,
            'group_of_weight': weight if group_of_weight is None else group_of_weight,
            'iou_thr': iou_thr,
            'expand_ground_truth': expand_ground_truth,
            'expand_detections': expand_detections,
        }
        # Wrong settings are to be found before an epoch of training, not after it.
        OpenImagesEvaluator(1, **self.settings)
        self.freq_thresholds = freq_thresholds
        self.classwise = classwise

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Figures of all gathered images (called by the host on the main rank)."""
        names = self.class_names
        matrix = self.ancestor_matrix
        if matrix is None and self.settings['expand_detections']:
            raise ValueError(
                '`expand_detections` needs `ancestor_matrix` in the metainfo of the '
                'dataset; its classes have no hierarchy'
            )
        gathered = stated = None
        if self.ann_file is None:
            rows = self.unique_images(results)
            stated = self._stated_groups()
            verified = [row.gt.image_level for row in rows]
            batches = _batches(rows)
        else:
            gathered = self.gather(results)
            stated = gathered.gt.freq_group
            verified = [
                _labels_of_ids(image, gathered.gt) for image in gathered.gt.images
            ]
            batches = _batches_of_columns(gathered, verified)
        freq_group = resolve_freq_group(
            names, self.class_stats, stated, thresholds=self.freq_thresholds
        )
        self._check_fields(verified)
        evaluator = OpenImagesEvaluator(
            len(names), ancestor_matrix=matrix, **self.settings
        )
        for batch in batches:
            evaluator.add(batch)
        result = evaluator.result()
        if self.outfile_prefix is not None:
            gathered = gathered or self.gather(rows)
            self.dump(gathered.gt, gathered.detections, freq_group)
        figures = {'mAP': result.mean()}
        if freq_group is not None:
            figures |= {f'AP{g}': result.mean(freq_group == g) for g in GROUPS}
        if self.classwise:
            figures |= self._classwise(result, freq_group)
        return figures

    def _check_fields(self, verified: Sequence[dict]) -> None:
        known = any({'verified_pos', 'verified_neg'} & set(row) for row in verified)
        if self.settings['judge'] == 'verified' and verified and not known:
            self.warn(
                'no data sample has `verified_pos` or `verified_neg`, so only classes '
                'with a box are judged in an image. If the dataset has them, add '
                "'verified_pos' and 'verified_neg' to `meta_keys` of PackDetInputs."
            )

    def _classwise(
        self, result: OpenImagesAP, freq_group: np.ndarray | None
    ) -> dict[str, float]:
        names = self.class_names
        columns = {
            'class': names,
            'group': None if freq_group is None else freq_group.tolist(),
            'ground truth': result.num_gt.tolist(),
            'AP': result.ap.tolist(),
        }
        columns = {name: column for name, column in columns.items() if column}
        table = text_table(list(columns), list(zip(*columns.values(), strict=True)))
        print_log(f'AP by class\n{table}', logger='current')
        values = np.where(np.isnan(result.ap), -1.0, result.ap).tolist()
        return {f'AP_{name}': v for name, v in zip(names, values, strict=True)}


def _batches(rows: Sequence[ImageRows]) -> Iterator[ImageBatch]:
    """Batches of whole images with a bounded number of detections."""
    total = np.cumsum([len(row.scores) for row in rows])
    index = total // ROWS_A_BATCH
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(index)) + 1):
        if len(part):
            yield _batch([rows[i] for i in part])


def _batch(rows: Sequence[ImageRows]) -> ImageBatch:
    number = np.arange(len(rows))
    verified = [_verified(row.gt.image_level) for row in rows]
    return ImageBatch(
        gt_image=np.repeat(number, [len(row.gt.labels) for row in rows]),
        gt_label=np.concatenate([row.gt.labels for row in rows]),
        gt_box=np.concatenate([row.gt.boxes for row in rows]),
        gt_is_group_of=np.concatenate([row.gt.is_group_of for row in rows]),
        verified_image=np.repeat(number, [len(labels) for labels, _ in verified]),
        verified_label=np.concatenate([labels for labels, _ in verified]),
        verified_present=np.concatenate([present for _, present in verified]),
        det_image=np.repeat(number, [len(row.scores) for row in rows]),
        det_label=np.concatenate([row.labels for row in rows]),
        det_box=np.concatenate([row.boxes for row in rows]),
        det_score=np.concatenate([row.scores for row in rows]),
    )


def _batches_of_columns(
    gathered: Gathered, verified: Sequence[dict]
) -> Iterator[ImageBatch]:
    """The same from an annotation; verified labels of each image of the annotation."""
    gt = gathered.gt.select_boxes(np.argsort(gathered.gt.image_index, kind='stable'))
    found = gathered.detections
    num_images = len(gt.images)
    total = np.cumsum(np.bincount(found.image_index, minlength=num_images))
    index = total // ROWS_A_BATCH
    for part in np.split(np.arange(num_images), np.flatnonzero(np.diff(index)) + 1):
        if not len(part):
            continue
        ends = part[0], part[-1] + 1
        own_gt = slice(*np.searchsorted(gt.image_index, ends))
        own = slice(*np.searchsorted(found.image_index, ends))
        labels = [_verified(verified[i]) for i in part]
        yield ImageBatch(
            gt_image=gt.image_index[own_gt] - part[0],
            gt_label=gt.labels[own_gt],
            gt_box=_to_xyxy(gt.boxes[own_gt]),
            gt_is_group_of=gt.is_group_of[own_gt],
            verified_image=np.repeat(part - part[0], [len(some) for some, _ in labels]),
            verified_label=np.concatenate([some for some, _ in labels]),
            verified_present=np.concatenate([present for _, present in labels]),
            det_image=found.image_index[own] - part[0],
            det_label=found.labels[own],
            det_box=_to_xyxy(found.boxes[own]),
            det_score=found.scores[own],
        )


def _labels_of_ids(image: dict, gt: GroundTruth) -> dict[str, np.ndarray]:
    """Image-level labels of an image of an annotation that states category ids."""
    found = {}
    for key, name in IMAGE_LEVEL_IDS.items():
        if name in image:
            ids = np.asarray(image[name], dtype=np.int64)
            # Categories that are no classes of the dataset are not judged.
            found[key] = np.nonzero(ids[:, None] == gt.category_ids)[1]
    return found


def _to_xyxy(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _verified(image_level: dict) -> tuple[np.ndarray, np.ndarray]:
    present = np.asarray(image_level.get('verified_pos', ()), dtype=np.int64)
    absent = np.asarray(image_level.get('verified_neg', ()), dtype=np.int64)
    return (
        np.concatenate([present, absent]),
        np.repeat([True, False], [len(present), len(absent)]),
    )
