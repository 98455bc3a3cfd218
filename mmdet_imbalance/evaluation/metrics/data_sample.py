"""Columns of one image out of a data sample of the host.

Shapes: n detections, m annotated boxes, C classes. Boxes are (x1, y1, x2, y2) in
pixels of the original image. Deviations from the host: besides the raw `instances` the
packed `gt_instances` serve as ground truth, so that any dataset can be evaluated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

NO_GROUND_TRUTH = (
    'The data samples carry no ground truth: give the metric `ann_file=...`, or put '
    "dict(type='LoadAnnotations', with_bbox=True) into the pipeline of the evaluated "
    "data, after Resize, or add 'instances' to `meta_keys` of PackDetInputs."
)
#: Metainfo of a sample about the whole image, as labels in [0, C).
LABEL_KEYS = ('verified_pos', 'verified_neg', 'not_exhaustive')


@dataclass
class GroundTruthRows:
    """Annotated boxes of one image: shapes (m, 4), (m,), (m,), (m,)."""

    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    is_group_of: np.ndarray
    image_level: dict = field(default_factory=dict)


@dataclass
class ImageRows:
    """One image: who it is, detections (n, 4), (n,), (n,) and its ground truth."""

    img_id: int | str
    img_path: str
    height: int
    width: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    gt: GroundTruthRows | None

    def key(self, with_path: bool) -> tuple:
        """Identity and order of the image.

        Joined datasets give the same `img_id` to different pictures, so the path
        tells them apart where no annotation file defines the ids.
        """
        text = isinstance(self.img_id, str)
        number = 0 if text else self.img_id
        return (text, number, str(self.img_id), self.img_path if with_path else '')


def rows_of_sample(
    sample: Mapping,
    num_classes: int,
    with_gt: bool,
    label_sets: Sequence[Sequence[int]] | None = None,
) -> ImageRows:
    """Columns of one data sample.

    Args:
        sample: the host's data sample as a dictionary.
        num_classes: number C of classes.
        with_gt: whether the ground truth comes from the sample.
        label_sets: members of each explicit label set; label C + k of an annotated
            box stands for set k.

    Raises:
        KeyError: no predictions, image id or ground truth.
        ValueError: a score or box that is not finite, or a label outside [0, C).
    """
    for key in ('pred_instances', 'img_id'):
        if key not in sample:
            raise KeyError(
                f'the data sample has no {key!r}; '
                + (
                    "add 'img_id' to `meta_keys` of PackDetInputs"
                    if key == 'img_id'
                    else 'the model has to give detections (mode="predict")'
                )
            )
    # Numpy's integers and tensors are no keys, and JSON cannot hold them.
    img_id = sample['img_id']
    img_id = img_id if isinstance(img_id, str) else int(img_id)
    pred = sample['pred_instances']
    boxes = to_numpy(pred['bboxes']).reshape(-1, 4)
    scores, labels = to_numpy(pred['scores']), to_numpy(pred['labels'])
    where = f'image {img_id!r}'
    _check_finite(scores, f'{where}: `scores`', 'has the training diverged?')
    _check_finite(boxes, f'{where}: `bboxes`', 'has the training diverged?')
    _check_labels(labels, num_classes, f'{where}: detected `labels`')
    height, width = sample.get('ori_shape', sample.get('img_shape', (0, 0)))[:2]
    gt = _ground_truth(sample, num_classes, label_sets, where) if with_gt else None
    return ImageRows(
        img_id=img_id,
        img_path=str(sample.get('img_path') or ''),
        height=int(height),
        width=int(width),
        boxes=boxes.astype(np.float32),
        scores=scores.astype(np.float32),
        labels=labels.astype(np.int32),
        gt=gt,
    )


def to_numpy(values: Any) -> np.ndarray:
    """Array of a tensor (any float type), a box object of the host or an array."""
    values = getattr(values, 'tensor', values)
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        return values.numpy()
    return np.asarray(values)


def _ground_truth(sample, num_classes, label_sets, where) -> GroundTruthRows:
    if sample.get('instances') is not None:
        rows = _from_instances(sample['instances'], num_classes, label_sets, where)
    elif sample.get('gt_instances') is not None and 'bboxes' in sample['gt_instances']:
        rows = _from_packed(sample, num_classes, label_sets, where)
    else:
        raise KeyError(NO_GROUND_TRUTH)
    _check_finite(rows.boxes, f'{where}: annotated boxes', 'check the annotation')
    rows.image_level = _image_level(sample)
    for key in LABEL_KEYS:
        labels = np.asarray(rows.image_level.get(key, ()), dtype=np.int64)
        _check_labels(labels, num_classes, f'{where}: `{key}`')
    return rows


def _image_level(sample) -> dict[str, list[int]]:
    found = {
        key: to_numpy(sample[key]).astype(np.int64).reshape(-1).tolist()
        for key in LABEL_KEYS
        if sample.get(key) is not None
    }
    # The host's Open Images datasets: presence is a confidence of 1, absence of 0;
    # what lies between was said by a machine and verifies nothing.
    if not found and sample.get('image_level_labels') is not None:
        labels = to_numpy(sample['image_level_labels']).astype(np.int64).reshape(-1)
        confidence = sample.get('confidences')
        confidence = (
            np.ones(len(labels)) if confidence is None else to_numpy(confidence)
        )
        found['verified_pos'] = labels[confidence == 1].tolist()
        found['verified_neg'] = labels[confidence == 0].tolist()
    return found


def _from_instances(instances, num_classes, label_sets, where) -> GroundTruthRows:
    labels = [row['bbox_label'] for row in instances]
    explicit = [row.get('multi_labels') for row in instances]
    source, classes = _members(labels, explicit, num_classes, label_sets, where)
    column = lambda key: np.array(  # noqa: E731
        [bool(row.get(key, 0)) for row in instances], dtype=bool
    )[source]
    boxes = np.array([row['bbox'] for row in instances], dtype=np.float64)
    return GroundTruthRows(
        boxes=boxes.reshape(-1, 4)[source],
        labels=classes,
        is_crowd=column('ignore_flag'),
        # The host's Challenge dataset writes the plural.
        is_group_of=column('is_group_of') | column('is_group_ofs'),
    )


def _members(labels, explicit, num_classes, label_sets, where):
    """Row and class of every label of every box; shapes (m,) each.

    `explicit` holds the label set of a box, or None where its label says it.
    """
    sets = [] if label_sets is None else label_sets
    _check_labels(
        np.asarray(labels, dtype=np.int64),
        num_classes + len(sets),
        f'{where}: annotated `labels`',
    )
    members = [
        given
        if given is not None and len(given)
        else ([label] if label < num_classes else sets[label - num_classes])
        for label, given in zip(labels, explicit, strict=True)
    ]
    source = np.repeat(np.arange(len(members)), [len(some) for some in members])
    classes = np.array([label for some in members for label in some], dtype=np.int64)
    _check_labels(classes, num_classes, f'{where}: annotated `labels`')
    return source, classes


def _from_packed(sample, num_classes, label_sets, where) -> GroundTruthRows:
    parts = []
    for name, is_crowd in (('gt_instances', False), ('ignored_instances', True)):
        instances = sample.get(name)
        if instances is None or 'bboxes' not in instances:
            continue
        boxes = to_numpy(instances['bboxes']).reshape(-1, 4).astype(np.float64)
        labels = to_numpy(instances['labels']).tolist()
        explicit = [None] * len(labels)
        if 'multi_labels' in instances:
            explicit = [
                np.flatnonzero(row) for row in to_numpy(instances['multi_labels'])
            ]
        source, labels = _members(labels, explicit, num_classes, label_sets, where)
        group = instances.get('is_group_of')
        group = np.zeros(len(boxes), bool) if group is None else to_numpy(group) > 0
        crowd = np.full(len(labels), is_crowd)
        parts.append((boxes[source], labels, crowd, group[source]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return GroundTruthRows(*columns)


def _check_finite(values: np.ndarray, what: str, hint: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f'{what} must be finite, {int(bad.sum())} of {bad.size} values are nan or '
            f'inf; {hint}'
        )


def _check_labels(labels: np.ndarray, num_classes: int, what: str) -> None:
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise ValueError(
            f'{what} must be in [0, {num_classes}), got {labels[outside][0]}: '
            '`num_classes` of the model and the classes of the dataset differ'
        )
