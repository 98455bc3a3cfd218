"""Reads a user's annotation for the profile, with what its format says besides boxes.

Shapes: I images, M rows (one label of one box each), K classes of the file.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmdet_imbalance.core.annotation_files import (
    CocoFile,
    read_annotation,
    read_json_object,
)
from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.recommendation.profile import PartialFacts

KINDS = ('coco', 'lvis', 'open_images')


@dataclass
class AnnotationSource:
    """Rows and facts of an annotation.

    Attributes:
        path: the file.
        kind: 'coco', 'lvis' (with federated fields) or 'open_images'.
        class_names: K names as they are shown.
        nodes: K names to look up in a hierarchy file: those of the file's ids.
        num_images: I, those without boxes included where the file names them.
        image: image of each row, int (M,).
        label: class of each row, int (M,).
        corners: x1, y1, x2, y2, (M, 4), in units of the file.
        ignored: crowd and group-of rows, bool (M,).
        relative_sizes: square root of the box's area over the longer side of its
            image, (M,); nan where unknown.
        partial: facts on partial annotation.
        file_names: of the images, where the file has them.
        needs_own_reader: the host's COCO reader does not understand the file: images
            are named as LVIS does, or boxes have no `area`.
        num_left_out: rows of the file that no training sees, and that are not among
            the M: without an area, or outside their image.
        supercategories: (class, supercategory) pairs that say something.
    """

    path: Path
    kind: str
    class_names: list[str]
    nodes: list[str]
    num_images: int
    image: np.ndarray
    label: np.ndarray
    corners: np.ndarray
    ignored: np.ndarray
    relative_sizes: np.ndarray
    partial: PartialFacts = field(default_factory=PartialFacts)
    file_names: list[str] = field(default_factory=list)
    needs_own_reader: bool = False
    num_left_out: int = 0
    supercategories: list[tuple[str, str]] = field(default_factory=list)

    @property
    def keeps_ancestors(self) -> bool:
        """Open Images evaluates inner nodes of its tree that no box names."""
        return self.kind == 'open_images'


def read_source(
    path: str | Path,
    class_file: str | Path | None = None,
    image_label_file: str | Path | None = None,
) -> AnnotationSource:
    """Read a COCO or LVIS JSON, or an Open Images box CSV.

    Args:
        path: the annotation.
        class_file: `class-descriptions*.csv` of Open Images; needed for a CSV. For a
            JSON it translates class names into the nodes of a hierarchy file.
        image_label_file: `*-human-imagelabels*.csv` of Open Images.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a broken file (with its line where known), or one that lacks what
            another one names.
    """
    path = Path(path)
    described = _read_class_file(class_file) if class_file else {}
    if path.suffix != '.json':
        return _open_images(path, described, class_file, image_label_file)
    if image_label_file is not None:
        raise ValueError('image-level labels belong to an Open Images CSV, not to JSON')
    if not path.is_file():
        raise FileNotFoundError(f'annotation {str(path)!r} not found')
    return _coco(path, read_json_object(path), described)


def _coco(path: Path, content: dict, described: dict[str, str]) -> AnnotationSource:
    file = CocoFile(path, content)
    records, categories = content['images'], content['categories']
    ids = {category['id']: k for k, category in enumerate(categories)}
    sizes = _image_sizes(path, file, records)
    names = file.class_names
    _check_names(path, names)
    rows = _trained_rows(file, sizes, content['annotations'])
    if len(file.label) and not len(rows):
        raise ValueError(f'{path}: no box has an area inside its image')
    image, boxes = file.image[rows], file.boxes[rows]
    corners = boxes.copy()
    corners[:, 2:] += corners[:, :2]
    # v1 of LVIS names its images by address only, v0.5 in a way of its own.
    odd = any(
        name is None or str(name).startswith('COCO_') for name in file.file_names
    ) or any('area' not in row for row in content['annotations'])
    federated = any('neg_category_ids' in record for record in records)
    by_name = {name.casefold(): node for node, name in described.items()}
    synsets = {c['name']: c.get('synset') for c in categories}
    return AnnotationSource(
        path=path,
        kind='lvis' if federated else 'coco',
        class_names=names,
        nodes=[by_name.get(n.casefold()) or synsets[n] or n for n in names]
        if described or all(synsets.values())
        else list(names),
        num_images=len(records),
        image=image,
        label=file.label[rows],
        corners=corners,
        ignored=file.ignored[rows],
        num_left_out=len(file.label) - len(rows),
        relative_sizes=np.sqrt(boxes[:, 2:].prod(axis=1)) / sizes.max(axis=1)[image]
        if len(rows)
        else np.zeros(0),
        partial=_federated_facts(file, records, ids) if federated else PartialFacts(),
        file_names=[str(name) for name in file.file_names if name],
        needs_own_reader=odd,
        supercategories=_supercategories(categories),
    )


def _image_sizes(path: Path, file: CocoFile, records: list) -> np.ndarray:
    """Width and height of each image, (I, 2)."""
    sizes = np.zeros((len(records), 2))
    for k, record in enumerate(records):
        for axis, field_name in enumerate(('width', 'height')):
            value = record.get(field_name)
            if not isinstance(value, int | float) or not value > 0:
                raise ValueError(
                    f'{path}: image {file.image_ids[k]!r} has no `{field_name}`, which '
                    'a training needs'
                )
            sizes[k, axis] = value
        if not (record.get('file_name') or record.get('coco_url')):
            raise ValueError(
                f'{path}: image {file.image_ids[k]!r} has neither `file_name` nor '
                '`coco_url`: nothing says where it lies'
            )
    return sizes


def _check_names(path: Path, names: list[str]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f'{path}: a category has the name {name!r}, no text')
        # The host replaces the one and obeys the other wherever they stand.
        if '{{' in name or name == '_delete_':
            raise ValueError(
                f'{path}: a config of the host cannot hold the category {name!r}; '
                'rename it'
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'{path}: several categories have the name {twice[0]!r}')


def _trained_rows(file: CocoFile, sizes: np.ndarray, rows: list) -> np.ndarray:
    """Rows that the host keeps for training: 1 px and more, and inside the image."""
    start, extent = file.boxes[:, :2], file.boxes[:, 2:]
    with np.errstate(invalid='ignore'):
        inside = np.minimum(start + extent, sizes[file.image]) - np.maximum(start, 0)
        is_kept = (extent >= 1).all(axis=1) & (inside > 0).all(axis=1)
    has_area = [row.get('area') is None or float(row['area']) > 0 for row in rows]
    return np.flatnonzero(is_kept & np.array(has_area, dtype=bool))


def _federated_facts(file: CocoFile, records: list, ids: dict) -> PartialFacts:
    known = file.presence(np.ones(len(file.label), dtype=bool), file.label)
    open_entries = 0
    for place, record in enumerate(records):
        absent = [ids[c] for c in record.get('neg_category_ids') or [] if c in ids]
        known[place, absent] = True
        open_entries += len(record.get('not_exhaustive_category_ids') or [])
    # Categories that this part of the data set never shows are nobody's question.
    known = known[:, np.bincount(file.label, minlength=len(ids)) > 0]
    return PartialFacts(
        'neg_category_ids', float(known.mean()) if known.size else 1.0, open_entries
    )


def _supercategories(categories: Sequence[dict]) -> list[tuple[str, str]]:
    """Pairs that tell classes apart: not the class itself, nor one above all."""
    pairs = [
        (c['name'], c['supercategory'])
        for c in categories
        if isinstance(c.get('supercategory'), str)
        and c['supercategory'] not in ('', 'none', c['name'])
    ]
    above = {parent for _, parent in pairs}
    # A single name above everything is the name of the data set.
    return pairs if len(above) > 1 or len(pairs) < len(categories) - 1 else []


def _open_images(
    path: Path,
    described: dict[str, str],
    class_file: str | Path | None,
    image_label_file: str | Path | None,
) -> AnnotationSource:
    file = read_annotation(path)
    if isinstance(file, CocoFile) or class_file is None:
        raise ValueError(
            f'{path}: an Open Images CSV needs its class file, '
            '--classes class-descriptions-boxable.csv'
        )
    unknown = [mid for mid in file.class_names if mid not in described]
    if unknown:
        raise ValueError(f'{path}: class {unknown[0]!r} is not in {class_file}')
    place = {mid: k for k, mid in enumerate(described)}
    label = np.array([place[mid] for mid in file.class_names], dtype=int)[file.label]
    # XMin, XMax, YMin, YMax
    corners = file.boxes[:, [0, 2, 1, 3]]
    width, height = (corners[:, 2:] - corners[:, :2]).clip(0).T
    images = {name: k for k, name in enumerate(file.image_ids)}
    partial = PartialFacts()
    if image_label_file is not None:
        partial = _verified_facts(
            Path(image_label_file), images, place, file.image, label
        )
    return AnnotationSource(
        path=path,
        kind='open_images',
        class_names=list(described.values()),
        nodes=list(described),
        num_images=len(images),
        image=file.image,
        label=label,
        corners=corners,
        ignored=file.ignored,
        relative_sizes=np.sqrt(width * height),
        partial=partial,
        file_names=[f'{name}.jpg' for name in file.image_ids],
    )


def _verified_facts(path, images, place, image, label) -> PartialFacts:
    """Entries that somebody verified; `images` grows by those without a box."""
    if not path.is_file():
        raise FileNotFoundError(f'image-level labels {str(path)!r} not found')
    entries = set(zip(image.tolist(), label.tolist(), strict=True))
    with path.open(encoding='utf-8-sig', newline='') as file:
        reader = csv.DictReader(file)
        missing = {'ImageID', 'LabelName'} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f'{path}, line 1: missing column(s) {sorted(missing)}')
        for row in reader:
            if row['LabelName'] in place:
                at = images.setdefault(row['ImageID'], len(images))
                entries.add((at, place[row['LabelName']]))
    shown = {k for _, k in entries}
    return PartialFacts(
        'image-level labels', len(entries) / max(len(images) * len(shown), 1)
    )


def _read_class_file(path: str | Path) -> dict[str, str]:
    # The host is not needed to count, but its reader of class files is ours.
    from mmdet_imbalance.datasets.open_images_csv import read_class_list

    return read_class_list(path)


def supercategory_hierarchy(source: AnnotationSource) -> ClassHierarchy | None:
    """Tree of the `supercategory` fields, None where they say nothing.

    Raises:
        ValueError: the fields make a cycle.
    """
    if not source.supercategories:
        return None
    return ClassHierarchy(
        source.supercategories,
        source.class_names,
        f'the supercategories of {source.path}',
    )
