"""Results on disk: detections in COCO's format beside a self-contained ground truth.

`PREFIX.bbox.json` is the list that every COCO tool reads. `PREFIX.gt.json` is a COCO
annotation with what analysis needs and the list cannot hold: image paths, ancestors,
frequency groups, training counts. An interrupted run leaves no half file.

Shapes: C classes. Deviations: none (this is no method of a paper).
"""

import json
from itertools import chain
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from mmdet_imbalance.core.atomic_write import write_text_atomically
from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth
from mmdet_imbalance.evaluation.coco_file import read_coco

RESULTS_SUFFIX = '.bbox.json'
ANNOTATION_SUFFIX = '.gt.json'
#: Image-level labels of a data sample and what LVIS calls them in an annotation.
IMAGE_LEVEL_IDS = {
    'verified_pos': 'pos_category_ids',
    'verified_neg': 'neg_category_ids',
    'not_exhaustive': 'not_exhaustive_category_ids',
}


def write_results(
    prefix: str | Path,
    gt: GroundTruth,
    detections: Detections,
    ancestor_matrix: np.ndarray | None = None,
    stats: object | None = None,
) -> tuple[Path, Path]:
    """Write detections and ground truth.

    Args:
        prefix: path without suffix.
        gt: ground truth.
        detections: detections.
        ancestor_matrix: [child, ancestor], shape (C, C), bool, or None.
        stats: `ClassStats` of the training set, or None.

    Returns:
        Path of the detections and of the ground truth.
    """
    results = Path(f'{prefix}{RESULTS_SUFFIX}')
    annotation = Path(f'{prefix}{ANNOTATION_SUFFIX}')
    write_text_atomically(
        annotation, json.dumps(to_coco(gt, ancestor_matrix, stats), allow_nan=False)
    )
    write_text_atomically(
        results, json.dumps(to_coco_results(gt, detections), allow_nan=False)
    )
    return results, annotation


def to_coco_results(gt: GroundTruth, detections: Detections) -> list[dict]:
    """Detections as COCO's list of dictionaries."""
    columns = zip(
        gt.image_ids()[detections.image_index].tolist(),
        gt.category_ids[detections.labels].tolist(),
        detections.boxes.tolist(),
        detections.scores.tolist(),
        strict=True,
    )
    names = ('image_id', 'category_id', 'bbox', 'score')
    return [dict(zip(names, row, strict=True)) for row in columns]


def to_coco(
    gt: GroundTruth,
    ancestor_matrix: np.ndarray | None = None,
    stats: object | None = None,
) -> dict:
    """Ground truth as a COCO annotation; arguments as in `write_results`."""
    categories = [
        {'id': int(i), 'name': name}
        for i, name in zip(gt.category_ids, gt.class_names, strict=True)
    ]
    for label, category in enumerate(categories):
        if gt.freq_group is not None and gt.freq_group[label]:
            category['frequency'] = str(gt.freq_group[label])
        if stats is not None:
            category['image_count'] = int(stats.img_count[label])
            category['instance_count'] = int(stats.instance_count[label])
        if ancestor_matrix is not None:
            ancestors = np.flatnonzero(ancestor_matrix[label])
            category['ancestors'] = [
                int(gt.category_ids[a]) for a in ancestors if a != label
            ]
    columns = zip(
        gt.image_ids()[gt.image_index].tolist(),
        gt.category_ids[gt.labels].tolist(),
        gt.boxes.tolist(),
        gt.areas.tolist(),
        gt.is_crowd.astype(int).tolist(),
        gt.is_group_of.astype(int).tolist(),
        strict=True,
    )
    names = ('image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'is_group_of')
    annotations = [
        {'id': i, **dict(zip(names, row, strict=True))}
        for i, row in enumerate(columns, start=1)
    ]
    return {
        'images': [_with_category_ids(image, gt.category_ids) for image in gt.images],
        'categories': categories,
        'annotations': annotations,
    }


def _with_category_ids(image: dict, category_ids: np.ndarray) -> dict:
    """An image whose image-level labels stand there as category ids, too."""
    ids = {
        name: category_ids[np.asarray(image[key], dtype=np.int64)].tolist()
        for key, name in IMAGE_LEVEL_IDS.items()
        if key in image and name not in image
    }
    return {**image, **ids}


def read_results(path: str | Path, gt: GroundTruth) -> Detections:
    """Read COCO results that belong to a ground truth.

    Raises:
        ValueError: no JSON list, a row without its keys, an image or a category that
            the ground truth does not have (results of another dataset), a score that
            is not finite.
    """
    columns = _typed_columns(path)
    # What the fast reader refuses is read again for a message that says why.
    image_id, category_id, scores, boxes = columns or _checked_columns(path)
    index = _positions(path, 'image_id', image_id, gt.image_ids())
    labels = _positions(path, 'category_id', category_id, gt.category_ids)
    for what, values in (('score', scores), ('bbox', boxes)):
        bad = ~np.isfinite(values.reshape(len(scores), -1 if len(scores) else 1)).all(1)
        if bad.any():
            raise ValueError(
                f'{path}: {int(bad.sum())} detections have a {what} that is not '
                f'finite, the first one is entry {int(np.flatnonzero(bad)[0])}'
            )
    order = np.argsort(index, kind='stable')
    return Detections(index, labels, boxes, scores).take(order)


def read_results_pair(
    results: str | Path, ann_file: str | Path | None = None
) -> tuple[GroundTruth, Detections]:
    """Read results and the ground truth beside them.

    Args:
        results: a results file.
        ann_file: annotation; None takes `PREFIX.gt.json` beside `PREFIX.bbox.json`.
    """
    ann_file = annotation_of(results) if ann_file is None else ann_file
    gt = read_coco(ann_file)
    return gt, read_results(results, gt)


class _Row(msgspec.Struct, gc=False):
    """A detection; other keys of a row are skipped."""

    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float]


def _typed_columns(path: str | Path) -> tuple[np.ndarray, ...] | None:
    """Columns of a well-formed results file, or None: NaN is one thing it refuses."""
    try:
        rows = msgspec.json.decode(Path(path).read_bytes(), type=list[_Row])
    except (OSError, msgspec.DecodeError):
        return None
    num = len(rows)
    column = lambda name, dtype: np.fromiter(  # noqa: E731
        map(attrgetter(name), rows), dtype, num
    )
    numbers = chain.from_iterable(map(attrgetter('bbox'), rows))
    boxes = np.fromiter(numbers, np.float64, 4 * num).reshape(-1, 4)
    ids = column('image_id', np.int64), column('category_id', np.int64)
    return *ids, column('score', np.float64), boxes


def _checked_columns(path: str | Path) -> tuple[np.ndarray, ...]:
    """The same from any JSON, or the error that says what is wrong."""
    try:
        with open(path, encoding='utf-8') as file:
            rows = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f'results file not found: {path}') from None
    except ValueError as error:
        raise ValueError(f'{path} is no valid JSON: {error}') from None
    if not isinstance(rows, list):
        raise ValueError(
            f'{path} is no COCO results file: expected a list of detections, got a '
            f'{type(rows).__name__}. An annotation file goes to --ann-file.'
        )
    try:
        for key in ('image_id', 'category_id'):
            # The other reader refuses what is no integer; numpy would cut it off.
            broken = [i for i in map(itemgetter(key), rows) if float(i) % 1]
            if broken:
                raise ValueError(f'{key} {broken[0]!r} is no integer')
        return _columns(rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is no COCO results file: every detection needs image_id, '
            f'category_id, bbox [x, y, w, h] and score '
            f'({type(error).__name__}: {error})'
        ) from None


def _columns(rows: list[dict]) -> tuple[np.ndarray, ...]:
    """Image and category ids, scores and boxes (D, 4) of COCO's list."""
    num = len(rows)
    # Half of the time of an evaluation from files is spent here: nothing is built that
    # the garbage collector would have to walk through.
    ids, categories, scores = (
        np.fromiter(map(itemgetter(key), rows), dtype, num)
        for key, dtype in (
            ('image_id', np.int64),
            ('category_id', np.int64),
            ('score', np.float64),
        )
    )
    if not set(map(len, map(itemgetter('bbox'), rows))) <= {4}:
        raise ValueError('a bbox has other than four numbers')
    numbers = chain.from_iterable(map(itemgetter('bbox'), rows))
    boxes = np.fromiter(numbers, np.float64, 4 * num).reshape(-1, 4)
    return ids, categories, scores, boxes


class ClassFacts(NamedTuple):
    """What a results file knows of the classes beyond their names.

    Attributes:
        img_count: training images of each class, shape (C,), or None.
        instance_count: training objects of each class, shape (C,), or None.
        ancestor_matrix: [child, ancestor], shape (C, C), bool, reflexive, or None.
    """

    img_count: np.ndarray | None
    instance_count: np.ndarray | None
    ancestor_matrix: np.ndarray | None


def read_class_facts(ann_file: str | Path, gt: GroundTruth) -> ClassFacts:
    """Read training counts and ancestors that `write_results` or LVIS left there.

    Args:
        ann_file: annotation file that `gt` was read from.
        gt: says the order of the classes.

    Raises:
        ValueError: an ancestor that is no category.
    """
    with open(ann_file, encoding='utf-8') as file:
        categories = json.load(file)['categories']
    by_id = {category['id']: category for category in categories}
    known = [by_id.get(i, {}) for i in gt.category_ids.tolist()]

    def counts(key):
        if not all(key in category for category in known):
            return None
        return np.array([category[key] for category in known], dtype=np.int64)

    matrix = None
    if any('ancestors' in category for category in known):
        matrix = np.eye(gt.num_classes, dtype=bool)
        label_of = {i: label for label, i in enumerate(gt.category_ids.tolist())}
        for label, category in enumerate(known):
            for ancestor in category.get('ancestors', ()):
                if ancestor not in label_of:
                    raise ValueError(
                        f'{ann_file}: class {gt.class_names[label]!r} has the ancestor '
                        f'{ancestor!r}, which is no category of the file'
                    )
                matrix[label, label_of[ancestor]] = True
    return ClassFacts(counts('image_count'), counts('instance_count'), matrix)


def annotation_of(results: str | Path) -> Path:
    """Path of the ground truth beside a results file."""
    if not str(results).endswith(RESULTS_SUFFIX):
        raise ValueError(
            f'{results} does not end in {RESULTS_SUFFIX}, so the ground truth '
            'beside it has no known name: name it with --ann-file'
        )
    return Path(str(results)[: -len(RESULTS_SUFFIX)] + ANNOTATION_SUFFIX)


def _positions(path, name, values, known) -> np.ndarray:
    order = np.argsort(known)
    at = np.searchsorted(known[order], values)
    at = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros_like(values)
    found = known[at] == values if len(order) else np.zeros(len(values), dtype=bool)
    if not found.all():
        raise ValueError(
            f'{path}: {int((~found).sum())} of {len(values)} detections have a {name} '
            f'that the ground truth does not know, the first one {values[~found][0]}: '
            'these are results of another dataset or split'
        )
    return at
