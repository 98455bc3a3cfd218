"""From the columns of Open Images files to the columns of a dataset.

Shapes: I images, M rows of the annotation, N objects, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmdet_imbalance.datasets.open_images_csv import (
    CODES,
    FLAGS,
    SIDES,
    codes_of,
    read_columns,
    row_error,
)
from mmdet_imbalance.datasets.open_images_objects import IGNORED_BIT, join_objects

GROUP_OF_BIT = 1 << FLAGS.index('IsGroupOf')


@dataclass(frozen=True)
class BuildOptions:
    """What turns rows into objects; part of the key of the store.

    Attributes:
        labels: machine id -> label in [0, C), or -1 for a known class that was not
            chosen.
        num_classes: number C of chosen classes.
        ancestor_matrix: bool (C, C), [child, ancestor], reflexive.
        train_group_of: 'ignore', 'use' or 'drop'.
        same_object_iou: least IoU of two annotations of one object; None joins none.
        test_mode: keep the rows exactly as annotated.
        skip_bad: skip and count rows that cannot be, instead of an error.
    """

    labels: Mapping[str, int]
    num_classes: int
    ancestor_matrix: np.ndarray
    train_group_of: str = 'ignore'
    same_object_iou: float | None = 0.9
    test_mode: bool = False
    skip_bad: bool = False


@dataclass
class Columns:
    """Objects and image-level labels of all images, flat.

    Attributes:
        image_id: names of the images, (I,).
        image_ptr: objects of image i are `image_ptr[i]:image_ptr[i + 1]`, (I + 1,).
        boxes: x1, y1, x2, y2 as fractions of width and height, (N, 4).
        labels: label, or C + k for the k-th label set, (N,).
        flags: bits of `FLAGS`, and `IGNORED_BIT`, (N,).
        sets: label sets, the primary label first.
        fact_ptr, fact_labels, fact_conf: image-level labels in the same way; empty
            without such a file.
        width, height: pixels, (I,), 0 where unknown; empty without a size index.
        report: how many rows met which fate.
    """

    image_id: pa.Array
    image_ptr: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    flags: np.ndarray
    sets: list[tuple[int, ...]] = field(default_factory=list)
    fact_ptr: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    fact_labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    fact_conf: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    width: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    height: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    report: dict[str, int] = field(default_factory=dict)


def build_columns(
    ann_file: str | Path,
    options: BuildOptions,
    image_level_ann_file: str | Path | None = None,
    image_sizes_file: str | Path | None = None,
) -> Columns:
    """Read and join the files of one split.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be; the message names file, line and value.
    """
    columns = _read_boxes(ann_file, options)
    if image_level_ann_file is not None:
        _add_facts(columns, image_level_ann_file, options)
    if image_sizes_file is not None:
        _add_sizes(columns, image_sizes_file)
    return columns


def _read_boxes(path: str | Path, options: BuildOptions) -> Columns:
    types = {'ImageID': CODES, 'LabelName': CODES}
    types |= dict.fromkeys(SIDES, pa.float64()) | dict.fromkeys(FLAGS, pa.int8())
    read, unreadable = read_columns(path, types, FLAGS, options.skip_bad)
    image, image_id = codes_of(read.pop('ImageID'))
    code, mids = codes_of(read.pop('LabelName'))
    boxes = np.empty((len(image), 4))
    for at, side in enumerate(SIDES):
        start = 0
        for chunk in read.pop(side).chunks:
            values = chunk.to_numpy(zero_copy_only=False)
            boxes[start : start + len(values), at] = values
            start += len(values)
    flags = np.zeros(len(image), dtype=np.uint8)
    for bit, name in enumerate(FLAGS):
        if name in read:
            is_set = pc.fill_null(pc.equal(read.pop(name), 1), False)
            flags |= is_set.to_numpy().astype(np.uint8) << bit
    report = {'rows': len(image) + unreadable, 'unreadable': unreadable}
    labels, bad = _labels_of_rows(path, code, mids, options)
    bad |= _impossible_boxes(path, boxes, options.skip_bad)
    bad |= _nameless_images(path, image, image_id, options.skip_bad)
    report['impossible'] = int(bad.sum())
    keep = ~bad & (labels >= 0)
    report['other_classes'] = int((~bad & (labels < 0)).sum())
    if not options.test_mode:
        keep = _choose_for_training(boxes, flags, keep, options, report)
    del code, bad
    if not keep.all():
        image, boxes, labels, flags = (a[keep] for a in (image, boxes, labels, flags))
    if (np.diff(image) < 0).any():
        order = np.argsort(image, kind='stable')
        image, boxes, labels, flags = (a[order] for a in (image, boxes, labels, flags))
    sets: list[tuple[int, ...]] = []
    if not options.test_mode:
        image, boxes, labels, flags, sets = join_objects(
            image, boxes, labels, flags, options, report
        )
    report['objects'] = len(labels)
    ptr = _row_pointer(image, len(image_id))
    return Columns(image_id, ptr, boxes, labels, flags, sets, report=report)


def _row_pointer(image: np.ndarray, num_images: int) -> np.ndarray:
    """First row of each image and the end, (I + 1,); of rows sorted by image."""
    ptr = np.zeros(num_images + 1, dtype=np.int64)
    np.cumsum(np.bincount(image, minlength=num_images), out=ptr[1:])
    return ptr


def _labels_of_rows(path, code, mids, options) -> tuple[np.ndarray, np.ndarray]:
    """Label of each row, int32 (M,), and which rows have an unknown id."""
    names = mids.to_pylist()
    known = np.array([options.labels.get(mid, -2) for mid in names], dtype=np.int32)
    labels = known[code] if len(names) else np.zeros(0, dtype=np.int32)
    bad = labels == -2
    if bad.any() and not options.skip_bad:
        row = int(bad.argmax())
        what = f'LabelName {names[code[row]]!r} is not in the label file'
        raise row_error(path, row, what)
    return labels, bad


def _impossible_boxes(path, boxes, skip_bad) -> np.ndarray:
    """Rows whose coordinates are no numbers or reversed, (M,)."""
    bad = np.zeros(len(boxes), dtype=bool)
    # One number says it of all, nan included.
    if not np.isfinite([boxes.min(initial=0), boxes.max(initial=0)]).all():
        bad = ~np.isfinite(boxes).all(axis=1)
    what = 'a coordinate is missing or not finite'
    if not bad.any():
        bad = (boxes[:, 0] > boxes[:, 2]) | (boxes[:, 1] > boxes[:, 3])
        what = 'reversed coordinates (XMin > XMax or YMin > YMax)'
    elif skip_bad:
        bad |= (boxes[:, 0] > boxes[:, 2]) | (boxes[:, 1] > boxes[:, 3])
    if bad.any() and not skip_bad:
        raise row_error(path, int(bad.argmax()), what)
    return bad


def _nameless_images(path, image, image_id, skip_bad) -> np.ndarray:
    nameless = np.flatnonzero(pc.equal(image_id, '').to_numpy(zero_copy_only=False))
    bad = np.isin(image, nameless) if len(nameless) else np.zeros(len(image), bool)
    if bad.any() and not skip_bad:
        raise row_error(path, int(bad.argmax()), 'an empty ImageID')
    return bad


def _choose_for_training(boxes, flags, keep, options, report) -> np.ndarray:
    """Clip to the image, leave out what has no area and, if asked, groups."""
    report['clipped'] = 0
    if not 0 <= boxes.min(initial=0) <= boxes.max(initial=0) <= 1:
        outside = keep & ((boxes < 0) | (boxes > 1)).any(axis=1)
        report['clipped'] = int(outside.sum())
        boxes[outside] = boxes[outside].clip(0, 1)
    empty = (boxes[:, 0] == boxes[:, 2]) | (boxes[:, 1] == boxes[:, 3])
    report['without_area'] = int((keep & empty).sum())
    keep &= ~empty
    group = (flags & GROUP_OF_BIT) > 0
    report['group_of'] = int((keep & group).sum())
    if options.train_group_of == 'drop':
        keep &= ~group
    elif options.train_group_of == 'ignore':
        flags[group] |= IGNORED_BIT
    return keep


def _add_facts(columns: Columns, path: str | Path, options: BuildOptions) -> None:
    types = {'ImageID': CODES, 'LabelName': CODES, 'Confidence': pa.float32()}
    read, unreadable = read_columns(path, types, (), options.skip_bad)
    image, image_id = codes_of(read['ImageID'])
    code, mids = codes_of(read['LabelName'])
    confidence = read['Confidence'].to_numpy()
    labels, bad = _labels_of_rows(path, code, mids, options)
    no_number = ~((confidence >= 0) & (confidence <= 1))
    if no_number.any() and not options.skip_bad:
        row = int(no_number.argmax())
        raise row_error(path, row, 'Confidence is no number in [0, 1]')
    bad |= no_number | _nameless_images(path, image, image_id, options.skip_bad)
    columns.report['image_level_rows'] = len(image) + unreadable
    columns.report['image_level_skipped'] = int(bad.sum()) + unreadable
    # Images that only this file knows have no object, but are judged in a test.
    place = pc.index_in(image_id, value_set=columns.image_id)
    new = pc.filter(image_id, pc.is_null(place))
    new = pc.filter(new, pc.not_equal(new, ''))
    columns.image_id = pa.concat_arrays([columns.image_id, new])
    columns.image_ptr = np.concatenate(
        [columns.image_ptr, np.full(len(new), columns.image_ptr[-1])]
    )
    place = pc.fill_null(pc.index_in(image_id, value_set=columns.image_id), -1)
    image = place.to_numpy()[image] if len(image_id) else image
    keep = ~bad & (labels >= 0)
    order = np.flatnonzero(keep)[np.argsort(image[keep], kind='stable')]
    columns.fact_ptr = _row_pointer(image[order], len(columns.image_id))
    columns.fact_labels = labels[order]
    columns.fact_conf = confidence[order].astype(np.float32)


def _add_sizes(columns: Columns, path: str | Path) -> None:
    types = {'ImageID': pa.string(), 'Width': pa.int32(), 'Height': pa.int32()}
    read, _ = read_columns(path, types)
    place = pc.index_in(columns.image_id, value_set=read['ImageID'].combine_chunks())
    found = pc.fill_null(place, -1).to_numpy()
    for name in ('width', 'height'):
        values = pc.fill_null(read[name.capitalize()], 0).to_numpy()
        values = np.append(values, 0)  # last: an image that the index lacks
        if (values[:-1] <= 0).any():
            row = int((values[:-1] <= 0).argmax())
            what = f'{name.capitalize()} must be positive'
            raise row_error(path, row, what, can_skip=False)
        setattr(columns, name, values[found].astype(np.int32))
    columns.report['images_without_size'] = int((found < 0).sum())
