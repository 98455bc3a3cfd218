"""Long-tailed, multi-label detection data that need no download.

Glyphs from the fonts in matplotlib's wheel on textured backgrounds: 68 leaf classes in
a tree of 82, Zipf frequencies, and homoglyphs (Latin A, Greek Alpha, Cyrillic A) as
classes that truly hold together for one object.

Shapes: C classes; boxes are x1, y1, x2, y2 in pixels, x2 and y2 one past the last.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from mmdet.datasets import BaseDetDataset

from mmdet_imbalance.core.label_index import LabelIndex
from mmdet_imbalance.datasets.glyph_annotator import GlyphAnnotator, labels_of
from mmdet_imbalance.datasets.glyph_cache import GlyphCache, content_key
from mmdet_imbalance.datasets.glyph_renderer import GlyphScene
from mmdet_imbalance.datasets.glyph_vocabulary import (
    CLASSES,
    ancestor_matrix,
    class_palette,
    zipf_probs,
)
from mmdet_imbalance.datasets.host_arguments import filter_options
from mmdet_imbalance.datasets.wider_label_sets import NumbersLabelSets
from mmdet_imbalance.registry import DATASETS


@DATASETS.register_module()
class GlyphDataset(NumbersLabelSets, BaseDetDataset):
    """Generated images of glyphs; image `i` is a pure function of `(seed, i)`.

    The pipeline has no loading step: the dataset hands the image over in memory. With
    a cache folder `img_path` names a real file, which the host's visualisation reads.

    Each instance carries `bbox`, `bbox_label`, `ignore_flag`, `object_id` (objects of
    an image, from 0) and `true_labels` (all leaves that the glyph can be, whatever was
    annotated; what a fair evaluation needs). Inner nodes of the tree are classes that
    no instance is annotated with; they follow from `ancestor_matrix`.

    Args:
        num_images: any number; the first k images do not depend on it.
        seed: of everything that is drawn at random.
        image_size: side of the square images, pixels.
        glyph_size: smallest and largest longer side of a glyph, pixels.
        objects_per_image: smallest and largest number of glyphs.
        max_rotation: of a glyph to either side, degrees.
        imbalance_factor: largest over smallest class frequency of the leaves, Zipf in
            between; 1 is balanced.
        frequency_seed: which leaf is how frequent; give training and test sets the
            same.
        annotate: 'all' annotates an object with every leaf that looks like it; 'one'
            with a single one of them, at random in proportion to their frequency.
        complete_fraction: with 'one', fraction of objects that are annotated with all
            nevertheless: what teaches which classes are concurrent.
        label_noise: fraction of objects annotated with a single wrong leaf.
        label_format: 'rows' gives an object with k labels k instances with the same
            box, in random order, as Open Images does, so that any stock pipeline
            works; 'sets' gives one instance whose `bbox_label` is C + k, an index
            into `metainfo['label_sets']`, and `multi_labels`, for pipelines that end
            in `mmdet_imbalance.PackMultiLabelDetInputs`.
        cache_dir: folder for rendered images; None renders anew each time.
        metainfo: `classes` may name a part of the vocabulary: other labels are
            dropped, the glyphs stay in the picture.
        filter_cfg: the host's `filter_empty_gt` and `min_size`; training only.
        pipeline: the host's.
        test_mode: the host's; keeps images without instances.
        lazy_init: the host's.
        indices: the host's: only the first or these images.
        serialize_data: the host's.
        max_refetch: the host's.
    """

    def __init__(
        self,
        num_images: int,
        seed: int = 0,
        *,
        image_size: int = 192,
        glyph_size: tuple[int, int] = (20, 52),
        objects_per_image: tuple[int, int] = (3, 7),
        max_rotation: float = 12.0,
        imbalance_factor: float = 100.0,
        frequency_seed: int = 0,
        annotate: str = 'all',
        complete_fraction: float = 0.0,
        label_noise: float = 0.0,
        label_format: str = 'rows',
        cache_dir: str | Path | None = None,
        metainfo: dict | None = None,
        filter_cfg: dict | None = None,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        max_refetch: int = 1000,
    ) -> None:
        _check_at_least('num_images', num_images, 0)
        _check_at_least('seed', seed, 0)
        self.num_images = num_images
        self.seed = seed
        self.scene = GlyphScene(
            image_size, tuple(glyph_size), tuple(objects_per_image), max_rotation
        )
        self.leaf_probs = zipf_probs(imbalance_factor, frequency_seed)
        metainfo = dict(metainfo or {})
        self.annotator = GlyphAnnotator(
            metainfo.get('classes', CLASSES),
            annotate,
            complete_fraction,
            label_noise,
            label_format,
        )
        self._cache = None
        if cache_dir is not None:
            key = content_key(
                scene=asdict(self.scene),
                seed=seed,
                imbalance_factor=float(imbalance_factor),
                frequency_seed=frequency_seed,
            )
            self._cache = GlyphCache(Path(cache_dir) / key)
        super().__init__(
            metainfo=self._complete_metainfo(metainfo),
            filter_cfg=filter_cfg,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            indices=indices,
            serialize_data=serialize_data,
            max_refetch=max_refetch,
        )

    # --- what the host asks ------------------------------------------------------
    def load_data_list(self) -> list[dict]:
        """One record an image; renders masks, but no image."""
        objects = self._cache.read_objects(self.num_images) if self._cache else None
        if objects is None:
            objects = [self._objects(index) for index in range(self.num_images)]
            if self._cache:
                self._cache.write_objects(objects)
        return [self._record(index, found) for index, found in enumerate(objects)]

    def filter_data(self) -> list[dict]:
        """Records that `filter_cfg` leaves; all of them in test mode."""
        if self.test_mode or not self.filter_cfg:
            return self.data_list
        drop_empty, min_size = filter_options(self.filter_cfg)
        return [
            record
            for record in self.data_list
            if (record['instances'] or not drop_empty) and record['width'] >= min_size
        ]

    def get_data_info(self, idx: int) -> dict:
        """Record of one image; its ids of label sets are behind the classes around."""
        record = super().get_data_info(idx)
        num_classes = len(self._metainfo['classes'])
        shift = self.set_table(num_classes).num_classes - num_classes
        for instance in record['instances'] if shift else ():
            if instance['bbox_label'] >= num_classes:
                instance['bbox_label'] += shift
        return record

    def prepare_data(self, idx: int):
        """Record and image of position `idx`, through the pipeline."""
        record = self.get_data_info(idx)
        record['img'] = self.image(record['img_id'])
        record['img_shape'] = record['ori_shape'] = record['img'].shape[:2]
        record['scale_factor'] = (1.0, 1.0)
        if self.annotator.label_format == 'sets':
            self._share_label_sets(record)
        return self.pipeline(record)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels in [0, C) of every instance; a label set gives all of its labels."""
        instances = self.get_data_info(idx)['instances']
        return [label for instance in instances for label in labels_of(instance)]

    # --- beyond the host ---------------------------------------------------------
    def image(self, img_id: int) -> np.ndarray:
        """Image `img_id` (not a position in a filtered set), (H, W, 3) uint8, BGR."""
        if not 0 <= img_id < self.num_images:
            raise IndexError(
                f'`img_id` must be in [0, {self.num_images}), got {img_id}'
            )
        size = self.scene.image_size
        image = self._cache.read_image(img_id, size) if self._cache else None
        if image is None:
            glyphs = self.scene.glyphs(self.seed, img_id, self.leaf_probs)
            image = self.scene.image(self.seed, img_id, glyphs)
            if self._cache:
                self._cache.write_image(img_id, image)
        return image

    def label_index(self) -> LabelIndex:
        """Labels of all images, and which of them are on one object."""
        rows = [
            (idx, label, instance['object_id'])
            for idx in range(len(self))
            for instance in self.get_data_info(idx)['instances']
            for label in labels_of(instance)
        ]
        image, labels, objects = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        ptr = np.searchsorted(image, np.arange(len(self) + 1))
        return LabelIndex(ptr, labels, np.zeros(len(rows), dtype=bool), objects)

    # --- parts -------------------------------------------------------------------
    def _complete_metainfo(self, metainfo: dict) -> dict:
        """Add classes, ancestors, palette and label sets; lists, so `==` works."""
        chosen = self.annotator.chosen
        palette = class_palette()
        metainfo.setdefault('palette', [palette[old] for old in chosen])
        metainfo['classes'] = tuple(CLASSES[old] for old in chosen)
        metainfo['ancestor_matrix'] = ancestor_matrix()[np.ix_(chosen, chosen)].tolist()
        metainfo['label_sets'] = [list(labels) for labels in self.annotator.label_sets]
        return metainfo

    def _share_label_sets(self, record: dict) -> None:
        """Bring the table that decodes the label-set ids, as the pack transform wants.

        The process has one table, so that images of several datasets can be mixed: ids
        of this dataset's own table become ids of that one.
        """
        table = self.set_table(len(self._metainfo['classes']))
        for instance in record['instances']:
            own = instance['bbox_label'] - table.num_classes
            if own >= 0:
                labels = self.primary_first(self.annotator.label_sets[own])
                instance['bbox_label'] = table.add(labels)
        record['label_sets'] = table

    def _objects(self, index: int) -> list[list[int]]:
        """Drawn leaf and box of every object: label, x1, y1, x2, y2."""
        glyphs = self.scene.glyphs(self.seed, index, self.leaf_probs)
        return [[glyph.label, *glyph.box] for glyph in glyphs]

    def _record(self, index: int, objects: list[list[int]]) -> dict:
        name = f'glyphs-{self.seed}-{index:07d}.png'
        path = str(self._cache.image_path(index)) if self._cache else name
        return {
            'img_id': index,
            'img_path': path,
            'height': self.scene.image_size,
            'width': self.scene.image_size,
            'instances': self.annotator.instances(self.seed, index, objects),
        }


def _check_at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f'`{name}` must be an integer of at least {least}, got {value!r}'
        )
