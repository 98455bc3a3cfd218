"""Open Images V4 to V7 and its Challenges, read from the official files.

Boxes stay fractions until an image is loaded, so nothing has to be known about the
images beforehand; columns are mapped from one file by all processes.

Shapes: N objects of an image, C classes.
Differs from the host: every image has its own file name, `metainfo=dict(classes=...)`
and `filter_cfg` take effect, two sets can be joined, group-of boxes do not train as
objects, rows of an image need not be adjacent, and no converted pickle is needed.
"""

import hashlib
import os.path as osp
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.core.label_index import LabelIndex
from mmdet_imbalance.datasets.class_stats import default_cache_dir
from mmdet_imbalance.datasets.host_arguments import (
    add_class_texts,
    filter_options,
    refuse_remote_files,
)
from mmdet_imbalance.datasets.open_images_build import BuildOptions, build_columns
from mmdet_imbalance.datasets.open_images_csv import choose_classes, read_class_list
from mmdet_imbalance.datasets.open_images_records import OpenImagesRecords
from mmdet_imbalance.datasets.open_images_store import open_or_build, store_key
from mmdet_imbalance.datasets.relation_matrix import RelationMatrix
from mmdet_imbalance.datasets.transforms.absolute_boxes import AbsoluteBoxes
from mmdet_imbalance.datasets.wider_label_sets import NumbersLabelSets, WiderClasses
from mmdet_imbalance.registry import DATASETS


@DATASETS.register_module()
class OpenImagesMultiLabelDataset(NumbersLabelSets, BaseDetDataset):
    """Open Images with hierarchy and explicit label sets.

    A record has the host's keys. Without a size index its boxes are fractions
    (`boxes_are_normalized`), and become pixels as soon as the pipeline has loaded the
    image; `height` and `width` are then absent, which aspect-ratio batching needs.

    In training, annotations of one object become one instance; its `bbox_label` is an
    id that `mmdet_imbalance.PackMultiLabelDetInputs` decodes. In test mode the rows
    stay exactly as annotated.

    Image-level facts in a record, as labels: `verified_pos` (verified present, or
    boxed), `verified_neg` (verified absent), `not_exhaustive` (a group-of box stands
    for an unknown number of objects). The first two only with `image_level_ann_file`.

    Args:
        ann_file: `*-annotations-bbox.csv` or a Challenge's box file.
        label_file: `class-descriptions-boxable.csv`, of lines `id,name`.
        hierarchy_file: `bbox_labels_600_hierarchy.json`; None: no ancestors.
        image_level_ann_file: `*-human-imagelabels*.csv`; its images count too where
            no box names them.
        image_sizes_file: index that `tools/image_sizes.py` makes.
        train_group_of: group-of boxes in training are 'ignore'd (no object, no
            background), 'use'd like others, or 'drop'ped.
        same_object_iou: least IoU of two annotations of one object; None joins none,
            for stock pipelines.
        bad_rows: 'error', or 'skip': rows that cannot be are left out and counted.
        img_suffix: of the image files.
        cache_dir: folder of the columns; None takes `open_images` in the default cache
            folder (see `mmdet_imbalance.datasets.class_stats`).
        metainfo: `classes` chooses by name; the rows of others are left out.
        filter_cfg: `filter_empty_gt`, and, with a size index, `min_size` in pixels.
        **kwargs: those of the host's `BaseDetDataset`.
    """

    METAINFO: ClassVar[dict] = {'dataset_type': 'oid_v6'}

    def __init__(
        self,
        ann_file: str,
        label_file: str,
        hierarchy_file: str | None = None,
        image_level_ann_file: str | None = None,
        image_sizes_file: str | None = None,
        train_group_of: str = 'ignore',
        same_object_iou: float | None = 0.9,
        bad_rows: str = 'error',
        img_suffix: str = '.jpg',
        cache_dir: str | Path | None = None,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        _check_choice('train_group_of', train_group_of, ('ignore', 'use', 'drop'))
        _check_choice('bad_rows', bad_rows, ('error', 'skip'))
        if same_object_iou is not None and not 0 < same_object_iou <= 1:
            raise ValueError(
                f'`same_object_iou` must be in (0, 1] or None, got {same_object_iou}'
            )
        if kwargs.get('proposal_file') is not None:
            raise ValueError('`proposal_file` is not supported by this dataset')
        refuse_remote_files(kwargs.get('backend_args'))
        self.label_file = label_file
        self.hierarchy_file = hierarchy_file
        self.image_level_ann_file = image_level_ann_file
        self.image_sizes_file = image_sizes_file
        self.train_group_of = train_group_of
        self.same_object_iou = same_object_iou
        self.bad_rows = bad_rows
        self.img_suffix = img_suffix
        self._cache_dir = Path(cache_dir or default_cache_dir() / 'open_images')
        self._order: np.ndarray | None = None
        kwargs.setdefault('data_prefix', {'img': ''})
        super().__init__(ann_file=ann_file, lazy_init=True, **kwargs)
        self._complete_metainfo()
        if not lazy_init:
            self.full_init()

    # --- loading -------------------------------------------------------------------
    def full_init(self) -> None:
        """Map the columns, building them at the first time."""
        if self._fully_initialized:
            return
        sources = [
            None if source is None else Path(source)
            for source in (
                self.ann_file,
                self.image_level_ann_file,
                self.image_sizes_file,
            )
        ]
        key = store_key(sources, self._build_options, self._cache_dir)
        built = []

        def build():
            built.append(True)
            print_log(f'reading {self.ann_file} into columns', logger='current')
            return build_columns(sources[0], self._build_options, *sources[1:])

        self._store = open_or_build(
            self._cache_dir, key, self._build_options.num_classes, build
        )
        if built:
            print_log(self.report_text(), logger='current')
        self._records = OpenImagesRecords(
            self._store,
            self.data_prefix['img'],
            self.img_suffix,
            not self.test_mode and self.same_object_iou is not None,
            self._wider,
        )
        self._order = self._filtered_order()
        if self._indices is not None:
            self._order = self._chosen(self._indices)
        self._fully_initialized = True
        self._check_pack(self.pipeline)

    def report_text(self) -> str:
        """What became of the rows, in one line."""
        counts = ', '.join(f'{k} {v}' for k, v in self._store.report.items() if v)
        return f'{self.ann_file}: {counts}'

    @property
    def report(self) -> dict[str, int]:
        """How many rows of the annotation met which fate."""
        self.full_init()
        return dict(self._store.report)

    def _complete_metainfo(self) -> None:
        names = read_class_list(self.label_file)
        chosen = choose_classes(names, self._metainfo.get('classes'), self.label_file)
        mids = list(chosen)
        matrix = np.eye(len(mids), dtype=bool)
        if self.hierarchy_file is not None:
            tree = ClassHierarchy.from_open_images_json(self.hierarchy_file)
            matrix = tree.ancestor_matrix(mids)
        matrix = RelationMatrix(matrix)
        self._metainfo.update(
            classes=tuple(chosen.values()),
            ancestor_matrix=matrix,
            RELATION_MATRIX=matrix,
        )
        labels = dict.fromkeys(names, -1)
        labels.update({mid: label for label, mid in enumerate(mids)})
        self._build_options = BuildOptions(
            labels=labels,
            num_classes=len(chosen),
            ancestor_matrix=np.asarray(matrix),
            train_group_of=self.train_group_of,
            same_object_iou=self.same_object_iou,
            test_mode=self.test_mode,
            skip_bad=self.bad_rows == 'skip',
        )

    def _filtered_order(self) -> np.ndarray | None:
        """Images that `filter_cfg` leaves, or None for all."""
        if self.test_mode or not self.filter_cfg:
            return None
        drop_empty, min_size = filter_options(self.filter_cfg)
        keep = np.ones(len(self._store), dtype=bool)
        if drop_empty:
            keep &= np.diff(self._store.image_ptr) > 0
        if min_size > 0:
            if not len(self._store.width):
                raise ValueError(
                    '`filter_cfg["min_size"]` needs the sizes of the images: make an '
                    'index with `python tools/image_sizes.py` and give it as '
                    '`image_sizes_file`, or leave `min_size` out'
                )
            keep &= np.minimum(self._store.width, self._store.height) >= min_size
        return np.flatnonzero(keep)

    def _chosen(self, indices: int | Sequence[int]) -> np.ndarray:
        """Images of some positions, in the host's two ways of saying which."""
        order = self._order
        order = np.arange(len(self._store)) if order is None else order
        if isinstance(indices, (int, np.integer)):
            return order[:indices] if indices >= 0 else order[indices:]
        return order[np.asarray(indices, dtype=np.int64)]

    def _join_prefix(self) -> None:
        super()._join_prefix()
        for name in (
            'label_file',
            'hierarchy_file',
            'image_level_ann_file',
            'image_sizes_file',
        ):
            value = getattr(self, name)
            if value and not is_abs(value) and self.data_root:
                setattr(self, name, osp.join(self.data_root, value))

    # --- pipeline --------------------------------------------------------------------
    @property
    def pipeline(self) -> Compose:
        """The pipeline, with a step that turns fractions into pixels."""
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Compose) -> None:
        if self._fully_initialized:
            self._check_pack(pipeline)
        self._pipeline = AbsoluteBoxes.around(pipeline)

    def _check_pack(self, pipeline: Compose) -> None:
        """Refuse a stock pack step where labels may be ids of sets."""
        if self.test_mode or not self._store.sets:
            return
        for step in pipeline.transforms:
            if type(step).__name__ == 'PackDetInputs':
                raise ValueError(
                    f'{self.ann_file} has {len(self._store.sets)} label sets (objects '
                    'annotated with several classes): end the pipeline with '
                    "dict(type='mmdet_imbalance.PackMultiLabelDetInputs') in place of "
                    'PackDetInputs, or set same_object_iou=None to keep one row for '
                    'each label'
                )

    # --- records -------------------------------------------------------------------
    def widen_label_sets(self, wider: WiderClasses) -> None:
        """Number the label sets behind the classes of a wrapper from now on."""
        super().widen_label_sets(wider)
        if self._fully_initialized:
            self._records.widen_label_sets(self._wider)

    def __len__(self) -> int:
        self.full_init()
        return len(self._store) if self._order is None else len(self._order)

    def get_data_info(self, idx: int) -> dict:
        """Record of one image, made on demand."""
        num = len(self)
        if not -num <= idx < num:
            raise IndexError(f'`idx` must be in [-{num}, {num}), got {idx}')
        idx = int(idx) % num
        record = self._records.record(self._image(idx))
        record['sample_idx'] = idx
        add_class_texts(record, self)
        return record

    def get_cat_ids(self, idx: int) -> list[int]:
        """Distinct labels of one image, those of sets taken apart."""
        return self._records.labels(self._image(range(len(self))[idx]))

    def label_index(self) -> LabelIndex:
        """Labels of all images, straight from the columns."""
        self.full_init()
        index = self._records.label_index()
        return index if self._order is None else index.select(self._order)

    def _image(self, idx: int) -> int:
        return idx if self._order is None else int(self._order[idx])

    def content_hash(self) -> str:
        """Hash of the store and of the chosen images."""
        self.full_init()
        order = b'' if self._order is None else self._order.tobytes()
        return hashlib.blake2b(
            self._store.key.encode() + order, digest_size=16
        ).hexdigest()

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep some images, in place."""
        self.full_init()
        self._order = self._chosen(indices)

    def get_subset(self, indices: int | Sequence[int]) -> 'OpenImagesMultiLabelDataset':
        """A dataset of some of the images."""
        self.full_init()
        other = self._copy_without_annotation()
        other._order = self._chosen(indices)
        return other

    def load_data_list(self) -> list[dict]:
        """All records as a list; millions of them take gigabytes."""
        return [self.get_data_info(i) for i in range(len(self))]


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f'`{name}` must be one of {choices}, got {value!r}')
