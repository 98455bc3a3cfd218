"""Annotation files as flat rows that can be cut and written back in their own format.

Two formats: COCO JSON (LVIS fields are kept and counted anew) and the box CSV of Open
Images.  What is not a row of a box (image records, other columns) passes through.

Shapes: I images, M rows (one label of one box each), C classes.
"""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdet_imbalance.core.atomic_write import write_text_atomically
from mmdet_imbalance.core.class_stats import freq_groups

BOX_COLUMNS = ('XMin', 'XMax', 'YMin', 'YMax')


@dataclass
class AnnotationCut:
    """What is to be written of an annotation.

    Attributes:
        keep_images: bool (I,).
        keep_rows: bool (M,).
        ignore_rows: rows kept as regions to ignore, bool (M,).
        labels: label of each row, int (M,).
        annotated: entries that the annotator looked at, bool (I, C); None is all.
    """

    keep_images: np.ndarray
    keep_rows: np.ndarray
    ignore_rows: np.ndarray
    labels: np.ndarray
    annotated: np.ndarray | None = None


class AnnotationFile:
    """Rows of an annotation; `read_annotation` chooses the subclass.

    Attributes:
        class_names: C names (MIDs for Open Images).
        image_ids: I ids, in the order of first mention.
        image: image of each row, int (M,).
        label: class of each row, int (M,).
        boxes: (M, 4), in the units of the file; to tell equal boxes.
        ignored: crowds and group-of boxes, bool (M,).
    """

    class_names: list[str]
    image_ids: list
    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray

    def presence(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which classes each image shows by some rows, bool (I, C)."""
        present = np.zeros((len(self.image_ids), len(self.class_names)), dtype=bool)
        present[self.image[rows], labels[rows]] = True
        return present

    def write(self, path: Path, cut: AnnotationCut) -> list[Path]:
        """Write a cut in the format of the file, each file whole or not at all."""
        raise NotImplementedError


class CocoFile(AnnotationFile):
    """COCO or LVIS JSON.  A cut by classes becomes `neg_category_ids`.

    Attributes:
        file_names: image file of each image; None where the record has none.
    """

    def __init__(self, path: Path, content: dict) -> None:
        for key in ('images', 'annotations', 'categories'):
            if not isinstance(content.get(key), list):
                raise ValueError(f'{path}: no list "{key}": not a COCO annotation')
        self._content = content
        # In the order of the file: the host's reader numbers the classes by it.
        categories, images = content['categories'], content['images']
        try:
            self._category_ids = [c['id'] for c in categories]
            self.class_names = [c['name'] for c in categories]
            self.image_ids = [record['id'] for record in images]
            self.file_names = [record.get('file_name') for record in images]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'{path}: an image or category lacks a field, or is no object '
                f'({type(error).__name__}: {error})'
            ) from error
        _check_unique(path, 'categories', self._category_ids)
        _check_unique(path, 'images', self.image_ids)
        label_of = {c: k for k, c in enumerate(self._category_ids)}
        image_of = {i: k for k, i in enumerate(self.image_ids)}
        rows = content['annotations']
        try:
            self.image = np.array([image_of[r['image_id']] for r in rows], dtype=int)
            self.label = np.array([label_of[r['category_id']] for r in rows], dtype=int)
            self.boxes = np.array([r['bbox'] for r in rows], float).reshape(
                len(rows), 4
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f'{path}: an annotation has no box, or an image or category that the '
                f'file lacks ({type(error).__name__}: {error})'
            ) from error
        self.ignored = np.array([bool(r.get('iscrowd')) for r in rows], dtype=bool)

    def write(self, path: Path, cut: AnnotationCut) -> list[Path]:
        """Write COCO JSON, with the counts of LVIS where the file had them."""
        present = self.presence(cut.keep_rows & ~cut.ignore_rows, cut.labels)
        records = []
        for i, record in enumerate(self._content['images']):
            if not cut.keep_images[i]:
                continue
            record = dict(record)
            if cut.annotated is not None:
                absent = cut.annotated[i] & ~present[i]
                if 'neg_category_ids' in record:
                    listed = set(record['neg_category_ids'])
                    absent &= np.array([c in listed for c in self._category_ids])
                record['neg_category_ids'] = self._ids(absent)
                record.setdefault('not_exhaustive_category_ids', [])
            elif 'neg_category_ids' in record:
                # A replaced label may be of a class that was verified absent.
                shown = set(self._ids(present[i]))
                record['neg_category_ids'] = [
                    c for c in record['neg_category_ids'] if c not in shown
                ]
            records.append(record)
        annotations = []
        for k in np.flatnonzero(cut.keep_rows):
            row = dict(self._content['annotations'][k])
            row['category_id'] = self._category_ids[cut.labels[k]]
            if cut.ignore_rows[k]:
                row['iscrowd'] = 1
            annotations.append(row)
        content = {
            **self._content,
            'images': records,
            'annotations': annotations,
            'categories': self._categories(present[cut.keep_images], cut),
        }
        write_text_atomically(path, json.dumps(content))
        return [path]

    def _ids(self, mask: np.ndarray) -> list[int]:
        return [self._category_ids[k] for k in np.flatnonzero(mask)]

    def _categories(self, present: np.ndarray, cut: AnnotationCut) -> list[dict]:
        img_count = present.sum(axis=0)
        counted = cut.keep_rows & ~cut.ignore_rows
        num = np.bincount(cut.labels[counted], minlength=len(self.class_names))
        fresh = {
            'frequency': freq_groups(img_count).tolist(),
            'image_count': img_count.tolist(),
            'instance_count': num.tolist(),
        }
        order = {c: k for k, c in enumerate(self._category_ids)}
        return [
            {
                **category,
                **{
                    key: values[order[category['id']]]
                    for key, values in fresh.items()
                    if key in category
                },
            }
            for category in self._content['categories']
        ]


class OpenImagesFile(AnnotationFile):
    """Box CSV of Open Images.  A cut by classes becomes a CSV of image labels."""

    def __init__(self, path: Path, header: list[str], rows: list[list[str]]) -> None:
        missing = {'ImageID', 'LabelName', *BOX_COLUMNS} - set(header)
        if missing:
            raise ValueError(f'{path}, line 1: missing column(s) {sorted(missing)}')
        self._header, self._rows = header, rows
        place = {name: header.index(name) for name in header}
        self._group_of = place.get('IsGroupOf')
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                raise ValueError(
                    f'{path}, line {number}: {len(row)} fields, the header has '
                    f'{len(header)}'
                )
        ids = [row[place['ImageID']] for row in rows]
        self.image_ids = list(dict.fromkeys(ids))
        names = [row[place['LabelName']] for row in rows]
        self.class_names = sorted(set(names))
        image_of = {i: k for k, i in enumerate(self.image_ids)}
        label_of = {c: k for k, c in enumerate(self.class_names)}
        self.image = np.array([image_of[i] for i in ids], dtype=int)
        self.label = np.array([label_of[n] for n in names], dtype=int)
        try:
            self.boxes = np.array(
                [[row[place[c]] for c in BOX_COLUMNS] for row in rows], dtype=float
            ).reshape(-1, 4)
        except ValueError as error:
            raise ValueError(f'{path}: a coordinate is no number ({error})') from error
        self.ignored = np.zeros(len(rows), dtype=bool)
        if self._group_of is not None:
            self.ignored[:] = [row[self._group_of] == '1' for row in rows]

    def write(self, path: Path, cut: AnnotationCut) -> list[Path]:
        """Write the box CSV, and `*-imagelabels.csv` beside it for a partial cut."""
        if cut.ignore_rows.any() and self._group_of is None:
            raise ValueError('boxes to ignore need a column IsGroupOf in the file')
        place = self._header.index('LabelName')
        rows = [self._header]
        for k in np.flatnonzero(cut.keep_rows):
            row = list(self._rows[k])
            row[place] = self.class_names[cut.labels[k]]
            if cut.ignore_rows[k]:
                row[self._group_of] = '1'
            rows.append(row)
        _write_csv(path, rows)
        if cut.annotated is None:
            return [path]
        present = self.presence(cut.keep_rows, cut.labels)
        rows = [['ImageID', 'Source', 'LabelName', 'Confidence']]
        for i, c in np.argwhere(cut.annotated & cut.keep_images[:, None]):
            flag = str(int(present[i, c]))
            rows.append([self.image_ids[i], 'cut', self.class_names[c], flag])
        beside = path.with_name(f'{path.stem}-imagelabels.csv')
        _write_csv(beside, rows)
        return [path, beside]


def read_annotation(path: str | Path) -> AnnotationFile:
    """Read a COCO JSON or an Open Images box CSV, by the suffix.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix, or a broken file, with its line where known.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'annotation {str(path)!r} not found')
    if path.suffix == '.json':
        return CocoFile(path, read_json_object(path))
    if path.suffix == '.csv':
        with path.open(encoding='utf-8-sig', newline='') as file:
            rows = [row for row in csv.reader(file) if row]
        if not rows:
            raise ValueError(f'{path} is empty')
        return OpenImagesFile(path, rows[0], rows[1:])
    raise ValueError(f'{path}: expected .json (COCO) or .csv (Open Images)')


def read_json_object(path: Path) -> dict:
    """The object of a JSON file; empty where the file holds something else.

    Raises:
        ValueError: no JSON, with the line where known.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'))
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path}, line {error.lineno}: not valid JSON ({error.msg})'
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not valid JSON ({error})') from error
    return content if isinstance(content, dict) else {}


def direct_parents(class_names: list[str], hierarchy) -> list[list[int]]:
    """Direct parents of each class within a vocabulary, by a `ClassHierarchy`."""
    label_of = {name: k for k, name in enumerate(class_names)}
    parents: dict[int, list[int]] = defaultdict(list)
    for name, k in label_of.items():
        if name in hierarchy:
            parents[k] = [label_of[p] for p in hierarchy.parents(name) if p in label_of]
    return [parents[k] for k in range(len(class_names))]


def _check_unique(path: Path, what: str, ids: list) -> None:
    seen = set()
    for one in ids:
        if one in seen:
            raise ValueError(f'{path}: several {what} have the id {one!r}')
        seen.add(one)


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    from io import StringIO

    text = StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    write_text_atomically(path, text.getvalue())
