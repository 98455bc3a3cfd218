"""Reads LVIS annotation files, v0.5 and v1, without making an object for each key.

The decoder knows which fields it wants, skips polygons, and checks types as it reads,
so that a file of a gigabyte becomes columns in seconds.

Shapes: I images, M annotations in the order of the images, C categories.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np


class _Image(msgspec.Struct, gc=False):
    id: int
    height: int
    width: int
    file_name: str = ''
    coco_url: str = ''
    neg_category_ids: list[int] = []
    not_exhaustive_category_ids: list[int] = []


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0


class _MaskedAnnotation(_Annotation, gc=False):
    segmentation: msgspec.Raw = msgspec.Raw(b'[]')


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str
    synset: str = ''
    frequency: str = ''


class _File(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _MaskedFile(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_MaskedAnnotation]
    categories: list[_Category]


@dataclass
class LvisColumns:
    """Content of an annotation file.

    Attributes:
        images: records of the images, in the order of the file.
        image_ptr: annotations of image i are `image_ptr[i]:image_ptr[i + 1]`, (I + 1,).
        cat_ids: category of each annotation, int64 (M,).
        boxes: x1, y1, x2, y2 in pixels, float64 (M, 4).
        is_crowd: bool (M,).
        segmentations: JSON text of each segmentation, or None where not asked for.
        categories: by rising id.
    """

    images: list[_Image]
    image_ptr: np.ndarray
    cat_ids: np.ndarray
    boxes: np.ndarray
    is_crowd: np.ndarray
    segmentations: list[bytes] | None
    categories: list[_Category]


def read_lvis(path: str | Path, with_segmentations: bool = False) -> LvisColumns:
    """Read an annotation file.

    Args:
        path: LVIS or COCO JSON.
        with_segmentations: keep the text of the segmentations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken JSON, a missing or mistyped field (with its place in the
            file), a repeated id, or an annotation of an unknown image or category.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'annotation file {str(path)!r} does not exist')
    kind = _MaskedFile if with_segmentations else _File
    try:
        file = msgspec.json.decode(
            path.read_bytes().removeprefix(b'\xef\xbb\xbf'), type=kind
        )
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'{path}: {error}') from error
    image_place = _places(path, 'image', [image.id for image in file.images])
    categories = sorted(file.categories, key=lambda category: category.id)
    known = _places(path, 'category', [category.id for category in categories])
    rows = file.annotations
    image = np.array([image_place.get(r.image_id, -1) for r in rows], dtype=np.int64)
    cat_ids = np.array([row.category_id for row in rows], dtype=np.int64)
    for what, bad in (
        ('image_id', image < 0),
        ('category_id', ~np.isin(cat_ids, list(known))),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f'{path}: annotation {row} has {what} {getattr(rows[row], what)}, '
                'which the file does not list'
            )
    boxes = np.array([row.bbox for row in rows], dtype=np.float64).reshape(-1, 4)
    wrong = ~np.isfinite(boxes).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f'{path}: annotation {row} has the box {list(rows[row].bbox)}')
    boxes[:, 2:] += boxes[:, :2]
    order = np.argsort(image, kind='stable')
    return LvisColumns(
        file.images,
        np.searchsorted(image[order], np.arange(len(file.images) + 1)),
        cat_ids[order],
        boxes[order],
        np.array([row.iscrowd for row in rows], dtype=bool)[order],
        [bytes(rows[k].segmentation) for k in order] if with_segmentations else None,
        categories,
    )


def image_path(image: _Image) -> str:
    """Path of an image below the folder of the images.

    v1 says it by the COCO address only, whose last two parts are split and file; v0.5
    puts the name of a COCO 2014 file before the twelve digits.
    """
    if not image.file_name:
        return '/'.join(image.coco_url.split('/')[-2:])
    if image.file_name.startswith('COCO_'):
        return image.file_name.rsplit('_', 1)[-1]
    return image.file_name


def _places(path: Path, what: str, ids: list[int]) -> dict[int, int]:
    places = {value: k for k, value in enumerate(ids)}
    if len(places) < len(ids):
        twice = next(value for k, value in enumerate(ids) if places[value] != k)
        raise ValueError(f'{path}: {what} id {twice} stands there twice')
    return places
