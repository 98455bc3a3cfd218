"""A class hierarchy beside any detection dataset.

Records, labels and images stay those of the wrapped dataset; the metainfo gains the
ancestors, from which losses, samplers and metrics derive implied labels.  Where classes
are appended, ids of label sets move behind them (`wider_label_sets`).

Shapes: C classes, those that are appended included.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS as HOST_DATASETS
from mmengine.dataset import BaseDataset
from mmengine.utils import is_abs

from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.core.label_index import LabelIndex
from mmdet_imbalance.datasets.class_stats import content_hash
from mmdet_imbalance.datasets.label_index import class_names, label_index
from mmdet_imbalance.datasets.relation_matrix import RelationMatrix
from mmdet_imbalance.datasets.wider_label_sets import (
    WiderClasses,
    raise_cannot_widen,
    widen_label_sets,
)
from mmdet_imbalance.registry import DATASETS


@DATASETS.register_module()
class ClassHierarchyDataset(BaseDataset):
    """Wraps a dataset and puts the ancestors of its classes into the metainfo.

    `metainfo['ancestor_matrix']` and, for the host's metric,
    `metainfo['RELATION_MATRIX']` are bool (C, C), [child, ancestor], reflexive. An
    ancestor through an inner node that is no class stays an ancestor.

    It is a `BaseDataset` so that the host's wrappers take it; everything that concerns
    records and pipeline is the wrapped dataset's.

    Args:
        dataset: any detection dataset, or a wrapper of one, or its config.
        hierarchy_file: JSON in the Open Images form; relative to `data_root` of the
            wrapped dataset where it is not found as it stands.
        add_ancestor_classes: append the inner nodes above the classes as classes of
            their own (the root left out), in the order of the file. Labels keep their
            numbers, ids of label sets come behind the new ones; `num_classes` of the
            model must be the new number.
        name_map: class name -> node name where they differ; or a CSV file of lines
            `node,class name` (the Open Images class descriptions). Classes it lacks
            go by their own name; appended nodes go by the name that it gives them.
        allow_unknown: classes that the hierarchy lacks have no relatives, instead of
            being an error.
        lazy_init: leave the loading of records to the first use.

    Raises:
        FileNotFoundError: no such hierarchy file.
        ValueError: classes or mapped nodes that the hierarchy lacks, two classes on
            one node, a cycle, a dataset without classes, or one with label sets that
            cannot be numbered behind added classes.
    """

    #: Says to `class_stats_of` that the records are those of `self.dataset`.
    adds_only_metainfo = True

    def __init__(
        self,
        dataset: BaseDataset | Mapping,
        hierarchy_file: str | Path,
        add_ancestor_classes: bool = False,
        name_map: Mapping[str, str] | str | Path | None = None,
        allow_unknown: bool = False,
        lazy_init: bool = False,
    ) -> None:
        if isinstance(dataset, Mapping):
            dataset = dict(dataset)
            if lazy_init:
                dataset.setdefault('lazy_init', True)
            dataset = HOST_DATASETS.build(dataset)
        if not hasattr(dataset, 'get_data_info') or not hasattr(dataset, 'metainfo'):
            raise TypeError(
                '`dataset` must be a dataset of the host or its config, got '
                f'{type(dataset).__name__}'
            )
        self.dataset = dataset
        self.hierarchy_file = self._find(hierarchy_file)
        self.hierarchy = ClassHierarchy.from_open_images_json(self.hierarchy_file)
        if not isinstance(name_map, Mapping) and name_map is not None:
            name_map = _read_descriptions(self._find(name_map))
        self._name_map = dict(name_map or {})
        self._add_ancestor_classes = add_ancestor_classes
        self._allow_unknown = allow_unknown
        self._hierarchy_metainfo: dict | None = None
        self._index: LabelIndex | None = None
        self._set_classes: int | None = None
        if not lazy_init:
            self.full_init()

    # --- metainfo ------------------------------------------------------------------
    @property
    def metainfo(self) -> dict:
        """Metainfo of the wrapped dataset, with the classes and their ancestors."""
        inner = self.dataset.metainfo
        if not isinstance(inner, dict):
            raise ValueError(
                'a ClassHierarchyDataset cannot wrap a ConcatDataset of datasets with '
                'different metainfo; wrap each part'
            )
        if self._hierarchy_metainfo is None:
            # Some datasets know their classes only once they are loaded.
            names = class_names(self.dataset)
            if names is None:
                self.dataset.full_init()
                inner, names = self.dataset.metainfo, class_names(self.dataset)
            self._hierarchy_metainfo = self._make_metainfo(inner, names)
        metainfo = {**inner, **self._hierarchy_metainfo}
        if 'freq_group' in inner:  # the appended classes have none
            added = len(metainfo['classes']) - len(inner['freq_group'])
            metainfo['freq_group'] = [*inner['freq_group'], *[''] * added]
        return metainfo

    def _make_metainfo(self, inner: dict, names: tuple[str, ...] | None) -> dict:
        if not names:
            raise ValueError(
                f'{type(self.dataset).__name__} names no classes; give it '
                '`metainfo=dict(classes=...)`'
            )
        nodes = [self._name_map.get(name, name) for name in names]
        if not self._allow_unknown:
            self.hierarchy.check_names(nodes)
        self._check_one_class_a_node(names, nodes)
        if self._add_ancestor_classes:
            added = self.hierarchy.inner_nodes_above(nodes)
            shown = {node: name for name, node in self._name_map.items()}
            names += tuple(shown.get(node, node) for node in added)
            nodes += added
            if len(set(names)) < len(names):
                twice = sorted({name for name in names if names.count(name) > 1})
                raise ValueError(
                    f'inner nodes of {self.hierarchy_file} have names of other '
                    f'classes: {twice}; tell them apart with `name_map`'
                )
        matrix = RelationMatrix(
            self.hierarchy.ancestor_matrix(nodes, allow_unknown=self._allow_unknown)
        )
        own = {'classes': names, 'ancestor_matrix': matrix, 'RELATION_MATRIX': matrix}
        palette = inner.get('palette')
        if isinstance(palette, Sequence) and not isinstance(palette, str):
            own['palette'] = [*palette, *_colours(len(names) - len(palette))]
        if len(names) > len(inner['classes']):
            self._set_classes = len(names)
            widen_label_sets(self.dataset, WiderClasses(len(inner['classes']), matrix))
        return own

    def widen_label_sets(self, wider: WiderClasses) -> None:
        """Number the label sets behind the classes of a wrapper around this one."""
        _ = self.metainfo  # the sets are behind the classes of this one first
        self._set_classes = wider.num_classes
        widen_label_sets(self.dataset, wider)

    def _check_one_class_a_node(self, names, nodes) -> None:
        first: dict[str, str] = {}
        for name, node in zip(names, nodes, strict=True):
            if node in first:
                raise ValueError(
                    f'classes {first[node]!r} and {name!r} both stand for node '
                    f"{node!r} of {self.hierarchy_file}; each would be the other's "
                    'ancestor'
                )
            first[node] = name

    def _find(self, path: str | Path) -> str:
        path = str(path)
        root = getattr(self.dataset, 'data_root', None)
        if not is_abs(path) and root and not Path(path).is_file():
            return str(Path(root) / path)
        return path

    # --- records and samples: the wrapped dataset's -----------------------------------
    @property
    def _fully_initialized(self) -> bool:
        return bool(getattr(self.dataset, '_fully_initialized', True))

    @_fully_initialized.setter
    def _fully_initialized(self, value: bool) -> None:
        self.dataset._fully_initialized = value

    @property
    def pipeline(self):
        """Pipeline of the wrapped dataset; hooks may replace it."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline) -> None:
        self.dataset.pipeline = pipeline

    def __getattr__(self, name: str) -> Any:
        # Only what is found nowhere else: `ann_file`, `test_mode`, `data_root` ...
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def full_init(self) -> None:
        """Load the wrapped dataset and check its classes against the hierarchy."""
        self.dataset.full_init()
        _ = self.metainfo

    def get_data_info(self, idx: int) -> dict:
        """Record of one image."""
        self._know_classes()
        record = self.dataset.get_data_info(idx)
        table = record.get('label_sets')
        known = self._set_classes
        if None not in (table, known) and table.num_classes != known:
            raise_cannot_widen(self.dataset)
        return record

    def _know_classes(self) -> None:
        """A record may be asked for before anything else: its ids need the classes."""
        if self._hierarchy_metainfo is None:
            _ = self.metainfo

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of one image."""
        if hasattr(self.dataset, 'get_cat_ids'):
            return self.dataset.get_cat_ids(idx)
        # Joined and repeated datasets of the host do not hand the question on.
        if self._index is None:
            self._index = label_index(self.dataset)
        start, end = self._index.image_ptr[[idx, idx + 1]]
        return self._index.labels[start:end].tolist()

    def prepare_data(self, idx: int) -> Any:
        """One image through the pipeline; None where the pipeline gives it up."""
        self._know_classes()
        return self.dataset.prepare_data(idx)

    def __getitem__(self, idx: int) -> dict:
        """One sample; another one where the pipeline gives an image up."""
        self._know_classes()
        return self.dataset[idx]

    def __len__(self) -> int:
        return len(self.dataset)

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keep some images, in place."""
        self.dataset.get_subset_(indices)

    def get_subset(self, indices: Sequence[int] | int) -> 'ClassHierarchyDataset':
        """A dataset of some of the images."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.dataset = self.dataset.get_subset(indices)
        return other

    def label_index(self) -> LabelIndex:
        """Labels of all images."""
        return label_index(self.dataset)

    def content_hash(self) -> str | None:
        """Hash of all records."""
        return content_hash(self.dataset)


def _read_descriptions(path: str) -> dict[str, str]:
    """Class name -> node of a CSV of lines `node,class name`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f'`name_map` file {path!r} does not exist')
    names: dict[str, str] = {}
    with open(path, newline='', encoding='utf-8-sig') as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row:
                continue
            if len(row) != 2 or not row[0] or not row[1]:
                raise ValueError(
                    f'{path}, line {number}: expected `node,class name`, got {row}'
                )
            if names.setdefault(row[1], row[0]) != row[0]:
                raise ValueError(
                    f'{path}, line {number}: class {row[1]!r} stands for both '
                    f'{names[row[1]]!r} and {row[0]!r}'
                )
    return names


def _colours(num: int) -> list[tuple[int, int, int]]:
    """Further colours of a palette, the same in every run."""
    drawn = np.random.default_rng(0).integers(0, 256, (max(num, 0), 3))
    return [tuple(colour) for colour in drawn.tolist()]
