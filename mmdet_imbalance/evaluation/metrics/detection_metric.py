"""What the metrics of the package share: columns out of the host's data samples.

Shapes: n detections of an image, C classes. Deviations from the host: ground truth
comes from `ann_file` *or* from the data samples, for every metric; an image that comes
twice (padding of the last batch) counts once; NaN is an error that names the image.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation.boxes import (
    Detections,
    GroundTruth,
    check_ancestor_matrix,
)
from mmdet_imbalance.evaluation.coco_ap import CocoAP
from mmdet_imbalance.evaluation.coco_file import read_coco
from mmdet_imbalance.evaluation.metrics.data_sample import ImageRows, rows_of_sample
from mmdet_imbalance.evaluation.results_file import write_results
from mmdet_imbalance.evaluation.tables import text_table

NO_CLASSES = (
    '`dataset_meta` has no classes. The runner sets it; outside of it write '
    "metric.dataset_meta = dict(classes=('a', 'b'))."
)


class Gathered(NamedTuple):
    """All images of an evaluation: ground truth, detections, both by image id."""

    gt: GroundTruth
    detections: Detections


class DetectionMetric(BaseMetric):
    """Base: gathers detections and ground truth of all images.

    Args:
        ann_file: COCO or LVIS annotation of the evaluated images; None takes the
            ground truth from the data samples.
        class_stats: statistics of the training set, or the file that
            `tools/class_stats.py` wrote; None leaves them to `ClassStatsHook`.
        only_evaluated_images: leave out images of `ann_file` that were not evaluated
            (a run over a part of the data); otherwise their objects are missed.
        outfile_prefix: writes `PREFIX.bbox.json` and `PREFIX.gt.json`.
        collect_device: 'cpu' or 'gpu', where ranks meet.
        prefix: first part of the metric names.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        class_stats: ClassStats | str | None = None,
        only_evaluated_images: bool = False,
        outfile_prefix: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if ann_file is not None and not Path(ann_file).is_file():
            raise FileNotFoundError(f'`ann_file` not found: {ann_file}')
        if isinstance(class_stats, (str, Path)):
            class_stats = ClassStats.load(class_stats)
        self.ann_file = ann_file
        self.class_stats = class_stats
        self.only_evaluated_images = only_evaluated_images
        self.outfile_prefix = outfile_prefix
        # An explicit choice in the config is not overwritten by the hook.
        self._stats_are_fixed = class_stats is not None
        self._annotation: GroundTruth | None = None

    def set_class_stats(self, stats: ClassStats) -> None:
        """Take the statistics of the training set (called by `ClassStatsHook`)."""
        if not self._stats_are_fixed:
            self.class_stats = stats

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the labels."""
        meta = self.dataset_meta or {}
        names = meta.get('classes')
        if not names:
            raise ValueError(NO_CLASSES)
        return (names,) if isinstance(names, str) else tuple(names)

    @property
    def ancestor_matrix(self) -> np.ndarray | None:
        """[child, ancestor], shape (C, C), of the dataset, its statistics, or None."""
        meta = self.dataset_meta or {}
        # The host's key is an array: no `or` on it.
        matrix = meta.get('ancestor_matrix')
        if matrix is None:
            matrix = meta.get('RELATION_MATRIX')
        if matrix is None:
            return None
        return check_ancestor_matrix(matrix, len(self.class_names))

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the columns of a batch (called by the host)."""
        num_classes = len(self.class_names)
        label_sets = (self.dataset_meta or {}).get('label_sets')
        for sample in data_samples:
            self.results.append(
                rows_of_sample(
                    sample,
                    num_classes,
                    with_gt=self.ann_file is None,
                    label_sets=label_sets,
                )
            )

    def gather(self, results: Sequence[ImageRows]) -> Gathered:
        """Ground truth and detections of all images, by ascending image id.

        Raises:
            ValueError: an evaluated image is not in `ann_file`, or statistics of
                other classes.
        """
        if self.class_stats is not None:
            self.class_stats.check_classes(self.class_names)
        rows = self.unique_images(results)
        if self.ann_file is None:
            gt = self._streamed_ground_truth(rows)
            index = np.arange(len(rows))
        else:
            gt, index = self._annotated_ground_truth(rows)
        counts = [len(row.scores) for row in rows]
        boxes = _concatenate([row.boxes for row in rows], (0, 4)).astype(np.float64)
        boxes = _to_xywh(boxes)
        detections = Detections(
            image_index=np.repeat(index, counts),
            labels=_concatenate([row.labels for row in rows], (0,)).astype(np.int64),
            boxes=boxes,
            scores=_concatenate([row.scores for row in rows], (0,)).astype(np.float64),
        )
        if (boxes[:, 2:] < 0).any():
            self.warn(
                f'{int((boxes[:, 2:] < 0).any(axis=1).sum())} detections end before '
                'they begin (x2 < x1 or y2 < y1): they count as boxes without area'
            )
            np.maximum(boxes[:, 2:], 0, out=boxes[:, 2:])
        return Gathered(
            gt, detections.take(np.argsort(detections.image_index, kind='stable'))
        )

    def dump(
        self, gt: GroundTruth, detections: Detections, freq_group: np.ndarray | None
    ) -> None:
        """Write the results where `outfile_prefix` says."""
        if self.outfile_prefix is None:
            return
        paths = write_results(
            self.outfile_prefix,
            replace(gt, freq_group=freq_group),
            detections,
            self.ancestor_matrix,
            self.class_stats,
        )
        print_log(f'Results written to {paths[0]} and {paths[1]}', logger='current')

    def log_classes(
        self, result: CocoAP, freq_group: np.ndarray | None, labels: np.ndarray
    ) -> dict[str, float]:
        """Log a table of all classes; AP of each under `AP_<class>`, -1 without any.

        Args:
            result: an evaluation.
            freq_group: 'r', 'c' or 'f' of each class, shape (C,), or None.
            labels: class of each annotated box, shape (M,).
        """
        names = self.class_names
        ap = result.per_class()
        columns = {
            'class': names,
            'group': None if freq_group is None else freq_group.tolist(),
            'train images': None
            if self.class_stats is None
            else self.class_stats.img_count.tolist(),
            'boxes': np.bincount(labels, minlength=len(names)).tolist(),
            'AP': ap.tolist(),
            **{
                f'AP{round(100 * thr)}': result.per_class(thr).tolist()
                for thr in (0.5, 0.75)
                if np.isclose(result.iou_thrs, thr).any()
            },
        }
        columns = {name: column for name, column in columns.items() if column}
        table = text_table(list(columns), list(zip(*columns.values(), strict=True)))
        print_log(f'AP by class\n{table}', logger='current')
        values = np.where(np.isnan(ap), -1.0, ap).tolist()
        return {f'AP_{name}': v for name, v in zip(names, values, strict=True)}

    def unique_images(self, results: Sequence[ImageRows]) -> list[ImageRows]:
        """Images by ascending id, each once (a last batch may be padded)."""
        rows = {}
        for row in results:
            rows.setdefault(row.key(self.ann_file is None), row)
        if len(rows) < len(results):
            self.warn(
                f'{len(results) - len(rows)} images came more than once; the first '
                'result of each counts'
            )
        return [rows[key] for key in sorted(rows)]

    def _annotated_ground_truth(self, rows):
        if self._annotation is None:
            self._annotation = read_coco(self.ann_file, self.class_names)
            self._warn_unlisted_classes(self._annotation)
        gt = self._annotation
        # A file that a metric wrote numbers its images anew and keeps what they were.
        ids = [image.get('img_id', image['id']) for image in gt.images]
        place = {img_id: k for k, img_id in enumerate(ids)}
        if len(place) < len(ids):
            raise ValueError(
                f'{self.ann_file} has several images of one `img_id`: it was written '
                'for joined datasets, and cannot be the `ann_file` of another run'
            )
        unknown = [row.img_id for row in rows if row.img_id not in place]
        if unknown:
            raise ValueError(
                f'{len(unknown)} of {len(rows)} evaluated images are not in '
                f'{self.ann_file}, the first one has img_id {unknown[0]!r}: `ann_file` '
                'belongs to another dataset or split'
            )
        index = np.array([place[row.img_id] for row in rows], dtype=np.int64)
        missing = np.setdiff1d(np.arange(len(ids)), index)
        if len(missing) and self.only_evaluated_images:
            chosen, index = np.unique(index, return_inverse=True)
            gt = gt.select_images(chosen)
        elif len(missing):
            self.warn(
                f'{len(missing)} of {len(ids)} images of {self.ann_file} were not '
                f'evaluated (first id {ids[missing[0]]}): all their objects count as '
                'missed. Use only_evaluated_images=True to leave them out.'
            )
        return gt, index

    def _streamed_ground_truth(self, rows):
        counts = [len(row.gt.labels) for row in rows]
        boxes = _to_xywh(_concatenate([row.gt.boxes for row in rows], (0, 4)))
        images = [
            {
                'id': i,
                'img_id': row.img_id,
                'file_name': row.img_path,
                'height': row.height,
                'width': row.width,
                **row.gt.image_level,
            }
            for i, row in enumerate(rows, start=1)
        ]
        num_classes = len(self.class_names)
        column = lambda name: _concatenate([getattr(r.gt, name) for r in rows], (0,))  # noqa: E731
        return GroundTruth(
            class_names=self.class_names,
            category_ids=np.arange(1, num_classes + 1),
            images=images,
            image_index=np.repeat(np.arange(len(rows)), counts),
            labels=column('labels').astype(np.int64),
            boxes=boxes,
            areas=boxes[:, 2] * boxes[:, 3],
            is_crowd=column('is_crowd').astype(bool),
            is_group_of=column('is_group_of').astype(bool),
            freq_group=self._stated_groups(),
        )

    def _stated_groups(self) -> np.ndarray | None:
        """Groups that the dataset states for its classes, as LVIS does, or None."""
        stated = self.dataset_meta.get('freq_group')
        if stated is None or len(stated) != len(self.class_names):
            return None
        return np.array(stated)

    def _warn_unlisted_classes(self, gt):
        matrix = self.ancestor_matrix
        implied = np.zeros(gt.num_classes, dtype=bool)
        if matrix is not None:
            implied = (matrix & ~np.eye(gt.num_classes, dtype=bool)).any(axis=0)
        names = [n for n, i in zip(gt.class_names, implied, strict=True) if not i]
        unlisted = sorted(set(names) & set(gt.unlisted))
        if unlisted:
            self.warn(
                f"{self.ann_file} does not list {len(unlisted)} of the dataset's "
                f'classes, so they have no ground truth and are in no average: '
                f'{unlisted[:10]}'
            )

    def warn(self, message: str) -> None:
        """Log a warning under the name of the metric."""
        print_log(f'{type(self).__name__}: {message}', logger='current', level=30)


def _to_xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _concatenate(parts: Sequence[np.ndarray], empty_shape: tuple) -> np.ndarray:
    return np.concatenate(parts) if len(parts) else np.zeros(empty_shape)
