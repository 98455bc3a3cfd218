"""Reading COCO and LVIS annotation files into columns.

Shapes: C classes. Deviations from the host: classes are matched by name, in the order
of the dataset, not of the file; a reference to nothing is an error.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from mmdet_imbalance.evaluation.boxes import GroundTruth


def read_coco(
    ann_file: str | Path | dict, class_names: Sequence[str] | None = None
) -> GroundTruth:
    """Read a COCO or LVIS annotation.

    A class of `class_names` that the annotation does not list stays without ground
    truth; categories that are not among `class_names` are left out.

    Args:
        ann_file: path of the JSON file, or its content.
        class_names: classes in the order of the labels; None takes all categories,
            sorted by id.

    Raises:
        ValueError: no JSON, a missing key, an annotation of an unknown image or
            category, ids or names that occur twice, or no class in common.
    """
    where = 'the annotation' if isinstance(ann_file, dict) else str(ann_file)
    content = _load_json(ann_file)
    for key in ('images', 'categories', 'annotations'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(
                f'{where} is no COCO annotation: it has no list named {key!r}'
            )
    for key, names in (('images', ('id',)), ('categories', ('id', 'name'))):
        for entry in content[key]:
            if not all(name in entry for name in names):
                raise ValueError(f'{where}: an entry of {key!r} lacks {names}: {entry}')
        for entry in content[key]:
            if not isinstance(entry['id'], int | float) or entry['id'] % 1:
                raise ValueError(
                    f'{where}: an id in {key!r} must be an integer, got {entry["id"]!r}'
                )
    images = sorted(content['images'], key=lambda image: image['id'])
    ids = np.array([image['id'] for image in images], dtype=np.int64)
    if len(np.unique(ids)) < len(ids):
        raise ValueError(f'{where}: two images share the id {_repeated(ids)}')
    categories = sorted(content['categories'], key=lambda category: category['id'])
    all_ids = np.array([category['id'] for category in categories], dtype=np.int64)
    if len(np.unique(all_ids)) < len(all_ids):
        raise ValueError(f'{where}: two categories share the id {_repeated(all_ids)}')
    by_name = {category['name']: category for category in categories}
    if len(by_name) < len(categories):
        names = np.array([str(category['name']) for category in categories])
        raise ValueError(f'{where}: two categories are called {_repeated(names)!r}')
    if class_names is None:
        class_names = [category['name'] for category in categories]
    elif not set(class_names) & set(by_name):
        raise ValueError(
            f'{where} and the dataset have no class in common: the annotation lists '
            f'{_some(by_name)}, the dataset {_some(class_names)}'
        )
    unused = iter(range(int(all_ids.max(initial=0)) + 1, 2**62))
    category_ids = np.array(
        [by_name[n]['id'] if n in by_name else next(unused) for n in class_names],
        dtype=np.int64,
    )
    cat, img, boxes, areas, crowd, group = _columns(content['annotations'], where)
    for what, column, known in (('category', cat, all_ids), ('image', img, ids)):
        unknown = ~np.isin(column, known)
        if unknown.any():
            raise ValueError(
                f'{where}: {int(unknown.sum())} annotations refer to a {what} that '
                f'does not exist, the first one to {what}_id {column[unknown][0]}'
            )
    order = np.argsort(category_ids)
    position = np.searchsorted(category_ids[order], cat)
    position = order[np.minimum(position, len(order) - 1)] if len(order) else cat
    keep = category_ids[position] == cat if len(order) else np.zeros(len(cat), bool)
    frequency = [by_name.get(n, {}).get('frequency', '') for n in class_names]
    return GroundTruth(
        class_names=tuple(class_names),
        category_ids=category_ids,
        images=images,
        image_index=np.searchsorted(ids, img[keep]),
        labels=position[keep],
        boxes=boxes[keep],
        areas=areas[keep],
        is_crowd=crowd[keep],
        is_group_of=group[keep],
        freq_group=np.array(frequency) if any(frequency) else None,
        unlisted=tuple(n for n in class_names if n not in by_name),
    )


def _load_json(source: str | Path | dict) -> object:
    if isinstance(source, dict):
        return source
    try:
        content = Path(source).read_bytes()
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError:
            # Slower, but it reads NaN and says where a file is broken.
            return json.loads(content)
    except FileNotFoundError:
        raise FileNotFoundError(f'annotation file not found: {source}') from None
    except ValueError as error:
        raise ValueError(f'{source} is no valid JSON: {error}') from None


def _columns(rows: list[dict], where: str) -> tuple[np.ndarray, ...]:
    try:
        return (
            np.array([row['category_id'] for row in rows], dtype=np.int64),
            np.array([row['image_id'] for row in rows], dtype=np.int64),
            np.array([row['bbox'] for row in rows], dtype=np.float64).reshape(-1, 4),
            np.array([row.get('area', _area(row)) for row in rows], dtype=np.float64),
            np.array([bool(row.get('iscrowd', 0)) for row in rows], dtype=bool),
            np.array([bool(row.get('is_group_of', 0)) for row in rows], dtype=bool),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{where}: every annotation needs category_id, image_id and bbox '
            f'[x, y, w, h] ({type(error).__name__}: {error})'
        ) from None


def _area(row: dict) -> float:
    return row['bbox'][2] * row['bbox'][3]


def _repeated(values: np.ndarray) -> object:
    unique, count = np.unique(values, return_counts=True)
    return unique[count > 1][0]


def _some(names: Sequence[str]) -> str:
    names = list(names)
    return f'{names[:5]}' + (f' and {len(names) - 5} more' if len(names) > 5 else '')
