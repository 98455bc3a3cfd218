"""LVIS v0.5 and v1 with its federated fields, a class tree and explicit label sets.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019,
https://arxiv.org/abs/1908.03195.

Shapes: N objects of an image, C classes.
Differs from the host: both versions in one class, categories from the file, the fields
`neg_category_ids`, `not_exhaustive_category_ids` and `frequency` are kept, objects with
several annotations become one, and lvis-api is not needed.
"""

import os.path as osp
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from mmdet.datasets import BaseDetDataset
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.core.label_index import LabelIndex
from mmdet_imbalance.core.label_set_table import LabelSetTable
from mmdet_imbalance.core.same_object import merge_same_objects
from mmdet_imbalance.datasets.host_arguments import (
    add_class_texts,
    filter_options,
    refuse_remote_files,
)
from mmdet_imbalance.datasets.lvis_json import LvisColumns, image_path, read_lvis
from mmdet_imbalance.datasets.relation_matrix import RelationMatrix
from mmdet_imbalance.datasets.wider_label_sets import NumbersLabelSets
from mmdet_imbalance.registry import DATASETS

#: Tree of the LVIS synsets, made by `tools/wordnet_tree.py`.
WORDNET_TREE = Path(__file__).with_name('lvis_wordnet_hierarchy.json')


@DATASETS.register_module()
class LVISMultiLabelDataset(NumbersLabelSets, BaseDetDataset):
    """LVIS, or any file of its layout.

    Image-level facts in a record, as labels: `verified_pos` (annotated), `verified_neg`
    (`neg_category_ids`), `not_exhaustive`; the file's own ids stand beside them.

    In training, annotations of one object become one instance; its `bbox_label` is an
    id that `mmdet_imbalance.PackMultiLabelDetInputs` decodes. In test mode the rows
    stay as annotated.

    Args:
        ann_file: LVIS JSON.
        hierarchy_file: class tree in the Open Images form, whose nodes are category
            names or synsets; 'wordnet' takes the one of the package; None: no
            ancestors.
        same_object_iou: least IoU of two annotations of one object; None joins none,
            for stock pipelines.
        load_masks: keep the segmentations, for Mask R-CNN.
        metainfo: `classes` chooses by name; the objects of others are left out. Without
            it all categories of the file are classes, by rising id.
        filter_cfg: `filter_empty_gt`, and `min_size` of an image in pixels.
        **kwargs: those of the host's `BaseDetDataset`.
    """

    def __init__(
        self,
        ann_file: str,
        hierarchy_file: str | None = None,
        same_object_iou: float | None = 0.9,
        load_masks: bool = False,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        if same_object_iou is not None and not 0 < same_object_iou <= 1:
            raise ValueError(
                f'`same_object_iou` must be in (0, 1] or None, got {same_object_iou}'
            )
        refuse_remote_files(kwargs.get('backend_args'))
        self.hierarchy_file = hierarchy_file
        self.same_object_iou = same_object_iou
        self.load_masks = load_masks
        self.report: dict[str, int] = {}
        kwargs.setdefault('data_prefix', {'img': ''})
        super().__init__(ann_file=ann_file, lazy_init=True, **kwargs)
        if not lazy_init:
            self.full_init()

    def _join_prefix(self) -> None:
        super()._join_prefix()
        tree = self.hierarchy_file
        if tree == 'wordnet':
            self.hierarchy_file = str(WORDNET_TREE)
        elif tree and not is_abs(tree) and self.data_root:
            self.hierarchy_file = osp.join(self.data_root, tree)

    # --- loading -------------------------------------------------------------------
    def load_data_list(self) -> list[dict]:
        """Records with arrays of objects, which `get_data_info` takes apart."""
        columns = read_lvis(self.ann_file, self.load_masks)
        self._complete_metainfo(columns)
        # Ids of this table stay in the records; those of the process's common table
        # are made on demand, for they differ from process to process.
        self._sets = LabelSetTable(len(self._metainfo['classes']))
        label_of = {
            category.id: self._metainfo['classes'].index(category.name)
            for category in columns.categories
            if category.name in self._metainfo['classes']
        }
        keep, labels = self._objects(columns, label_of)
        records = []
        bounds = np.searchsorted(keep, columns.image_ptr)
        for place, image in enumerate(columns.images):
            rows = slice(bounds[place], bounds[place + 1])
            objects = keep[rows]
            record = {
                'img_id': image.id,
                'img_path': osp.join(self.data_prefix['img'] or '', image_path(image)),
                'height': image.height,
                'width': image.width,
                'boxes': columns.boxes[objects].astype(np.float32),
                'labels': labels[rows],
                'is_crowd': columns.is_crowd[objects],
                'neg_category_ids': image.neg_category_ids,
                'not_exhaustive_category_ids': image.not_exhaustive_category_ids,
                'verified_neg': _labels(image.neg_category_ids, label_of),
                'not_exhaustive': _labels(image.not_exhaustive_category_ids, label_of),
            }
            if columns.segmentations is not None:
                record['segmentations'] = [columns.segmentations[k] for k in objects]
            records.append(record)
        counts = [f'{k} {v}' for k, v in self.report.items() if v]
        counts = ', '.join([f'{len(records)} images', *counts])
        print_log(f'{self.ann_file}: {counts}', logger='current')
        return records

    def _complete_metainfo(self, columns: LvisColumns) -> None:
        by_name = {category.name: category for category in columns.categories}
        if len(by_name) < len(columns.categories):
            raise ValueError(f'{self.ann_file}: two categories have the same name')
        chosen = self._metainfo.get('classes')
        chosen = tuple(by_name) if chosen is None else chosen
        chosen = (chosen,) if isinstance(chosen, str) else tuple(chosen)
        unknown = [name for name in chosen if name not in by_name]
        if unknown or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(
                "`metainfo['classes']` must be distinct category names of "
                f'{self.ann_file}, got {unknown or chosen}'
            )
        matrix = np.eye(len(chosen), dtype=bool)
        if self.hierarchy_file is not None:
            tree = ClassHierarchy.from_open_images_json(self.hierarchy_file)
            # By name, or by synset where the tree is of synsets.
            nodes = [n if n in tree else by_name[n].synset or n for n in chosen]
            matrix = tree.ancestor_matrix(nodes)
        matrix = RelationMatrix(matrix)
        self._metainfo.update(
            classes=chosen, ancestor_matrix=matrix, RELATION_MATRIX=matrix
        )
        groups = [by_name[name].frequency for name in chosen]
        if all(groups):
            self._metainfo['freq_group'] = groups

    def _objects(
        self, columns: LvisColumns, label_of: dict[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Annotations to keep, rising, and the label or label-set id of each."""
        ids, place = np.unique(columns.cat_ids, return_inverse=True)
        of_id = np.array([label_of.get(i, -1) for i in ids.tolist()], dtype=np.int64)
        labels = of_id[place] if len(ids) else place
        keep = np.flatnonzero(labels >= 0)
        self.report = {'objects of other classes': len(labels) - len(keep)}
        if self.test_mode:
            return keep, labels[keep]
        image = np.repeat(np.arange(len(columns.images)), np.diff(columns.image_ptr))
        size = np.array([(i.width, i.height) for i in columns.images]).reshape(-1, 2)
        bound = np.tile(size, 2)[image[keep]]
        boxes = columns.boxes[keep].clip(0, bound)
        self.report['boxes clipped'] = int((boxes != columns.boxes[keep]).any(1).sum())
        columns.boxes[keep] = boxes
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        self.report['boxes without area'] = int((~has_area).sum())
        keep = keep[has_area]
        if self.same_object_iou is None:
            return keep, labels[keep]
        # A crowd is a region to ignore, not a label of the object in the same place.
        is_object = ~columns.is_crowd[keep]
        crowds, objects = keep[~is_object], keep[is_object]
        merged = merge_same_objects(
            columns.boxes[objects],
            image[objects],
            labels[objects],
            np.asarray(self._metainfo['ancestor_matrix']),
            self.same_object_iou,
        )
        self.report['labels joined to sets'] = merged.num_concurrent
        self.report['labels that others imply'] = merged.num_implied
        joined = merged.labels.copy()
        for at, names in merged.sets.items():
            joined[at] = self._sets.add(names)
        rows = np.concatenate([objects[merged.keep], crowds])
        joined = np.concatenate([joined, labels[crowds]])
        order = np.argsort(rows)
        return rows[order], joined[order]

    def filter_data(self) -> list[dict]:
        """Images that `filter_cfg` leaves."""
        if self.test_mode or not self.filter_cfg:
            return self.data_list
        needs_objects, min_size = filter_options(self.filter_cfg)
        return [
            record
            for record in self.data_list
            if min(record['width'], record['height']) >= min_size
            and not (needs_objects and record['is_crowd'].all())
        ]

    # --- records -------------------------------------------------------------------
    def get_data_info(self, idx: int) -> dict:
        """Record of one image in the host's form."""
        record = super().get_data_info(idx)
        boxes, labels = record.pop('boxes'), record.pop('labels')
        is_crowd = record.pop('is_crowd')
        segmentations = record.pop('segmentations', None)
        num_classes = self._sets.num_classes
        table = self.set_table(num_classes)
        record['instances'] = [
            {
                'bbox': box,
                'bbox_label': label
                if label < num_classes
                else table.add(self.primary_first(self._names(label))),
                'ignore_flag': int(crowd),
            }
            for box, label, crowd in zip(
                boxes.tolist(), labels.tolist(), is_crowd.tolist(), strict=True
            )
        ]
        if segmentations is not None:
            for instance, text in zip(record['instances'], segmentations, strict=True):
                instance['mask'] = msgspec.json.decode(text)
        present = self._explicit(labels)
        record['verified_pos'] = present
        record['verified_neg'] = sorted(set(record['verified_neg']) - set(present))
        if not self.test_mode and self.same_object_iou is not None:
            record['label_sets'] = table
        add_class_texts(record, self)
        return record

    def get_cat_ids(self, idx: int) -> list[int]:
        """Distinct labels of one image, those of sets taken apart."""
        return self._explicit(super().get_data_info(idx)['labels'])

    def label_index(self) -> LabelIndex:
        """Labels of all images; an object with k labels has k rows."""
        self.full_init()
        labels, ignored, objects = [], [], []
        for i in range(len(self)):
            record = super().get_data_info(i)
            sets = [self._names(k) for k in record['labels'].tolist()]
            labels.append([label for names in sets for label in names])
            objects.append([k for k, names in enumerate(sets) for _ in names])
            ignored.append(np.repeat(record['is_crowd'], [len(s) for s in sets]))
        index = LabelIndex.from_lists(labels, ignored)
        return LabelIndex(
            index.image_ptr,
            index.labels,
            index.ignored,
            np.concatenate([np.zeros(0, np.int64), *map(np.int64, objects)]),
        )

    def _names(self, label: int) -> tuple[int, ...]:
        """Labels that an id of the records stands for, the primary one first."""
        num_classes = self._sets.num_classes
        return (label,) if label < num_classes else self._sets.sets[label - num_classes]

    def _explicit(self, labels: np.ndarray) -> list[int]:
        """All labels of some ids, sets taken apart."""
        return sorted({c for k in set(labels.tolist()) for c in self._names(k)})


def _labels(cat_ids: list[int], label_of: dict[int, int]) -> list[int]:
    return sorted(label_of[c] for c in cat_ids if c in label_of)
