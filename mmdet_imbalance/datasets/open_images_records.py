"""Records, labels and facts of images, made on demand from a store.

Shapes: N objects of an image, C classes, S label sets of the store.
"""

import os.path as osp
from collections.abc import Sequence

import numpy as np

from mmdet_imbalance.core.label_index import LabelIndex
from mmdet_imbalance.datasets.open_images_build import GROUP_OF_BIT
from mmdet_imbalance.datasets.open_images_csv import FLAGS
from mmdet_imbalance.datasets.open_images_objects import IGNORED_BIT
from mmdet_imbalance.datasets.open_images_store import OpenImagesStore
from mmdet_imbalance.datasets.wider_label_sets import NumbersLabelSets, WiderClasses

#: is_occluded, is_truncated, is_group_of, is_depiction, is_inside: the host's keys.
FLAG_KEYS = ('is_occluded', 'is_truncated', 'is_group_of', 'is_depiction', 'is_inside')
#: What each combination of bits says.
FLAGS_OF_BITS = [
    {key: bool(bits >> k & 1) for k, key in enumerate(FLAG_KEYS)}
    for bits in range(1 << (len(FLAGS) + 1))
]


class RecordWithoutSize(dict):
    """A record that says what is missing when it is asked for its size."""

    def __missing__(self, key):
        if key in ('width', 'height'):
            raise KeyError(
                f'{key!r} of {self.get("img_path")} is not known before the image is '
                'loaded: make an index with `python tools/image_sizes.py` and give it '
                'to the dataset as `image_sizes_file` (aspect-ratio batching needs it)'
            )
        raise KeyError(key)


class OpenImagesRecords(NumbersLabelSets):
    """Looks images up in a store.

    Args:
        store: the columns.
        img_prefix: folder of the images.
        img_suffix: of the image files.
        with_label_sets: records bring the table that decodes their labels.
        wider: the classes around the dataset; None: it stands in no others.
    """

    def __init__(
        self,
        store: OpenImagesStore,
        img_prefix: str,
        img_suffix: str,
        with_label_sets: bool,
        wider: WiderClasses | None = None,
    ) -> None:
        self.store = store
        self.img_prefix = img_prefix
        self.img_suffix = img_suffix
        self.with_label_sets = with_label_sets
        self._wider = wider
        self._bind_table()

    def widen_label_sets(self, wider: WiderClasses) -> None:
        """Number the label sets behind the classes of a wrapper from now on."""
        super().widen_label_sets(wider)
        self._bind_table()

    def _bind_table(self) -> None:
        """Ids of the store's sets in the table of this process, (C + S,)."""
        self._table = self.set_table(self.store.num_classes)
        ids = [
            self._table.add(self.primary_first(labels)) for labels in self.store.sets
        ]
        own = np.arange(self.store.num_classes)
        self._shared_id = np.concatenate([own, np.array(ids, dtype=np.int64)])

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state['_table'], state['_shared_id']
        return state

    def __setstate__(self, state: dict) -> None:
        # The table of another process may number the same sets differently.
        self.__dict__.update(state)
        self._bind_table()

    def record(self, image: int) -> dict:
        """Everything that is known of one image, with the host's keys."""
        store = self.store
        img_id = store.image_id[image].as_py()
        record = RecordWithoutSize(
            img_path=osp.join(self.img_prefix, img_id + self.img_suffix), img_id=img_id
        )
        a, b = store.image_ptr[image : image + 2].tolist()
        boxes, labels, flags = store.boxes[a:b], store.labels[a:b], store.flags[a:b]
        size = self._size(image)
        if size is not None:
            record['width'], record['height'] = size
            boxes = boxes * np.array(size * 2)
        else:
            record['boxes_are_normalized'] = True
        record['instances'] = [
            {
                'bbox': box,
                'bbox_label': label,
                'ignore_flag': int(bits & IGNORED_BIT > 0),
                **FLAGS_OF_BITS[bits],
            }
            for box, label, bits in zip(
                boxes.tolist(),
                self._shared_id[labels].tolist(),
                flags.tolist(),
                strict=True,
            )
        ]
        if self.with_label_sets:
            record['label_sets'] = self._table
        self._add_facts(record, image, labels, flags)
        return record

    def _size(self, image: int) -> tuple[int, int] | None:
        if not len(self.store.width):
            return None
        size = int(self.store.width[image]), int(self.store.height[image])
        return size if size[0] > 0 else None

    def _add_facts(self, record: dict, image: int, labels, flags) -> None:
        store = self.store
        group = labels[(flags & GROUP_OF_BIT) > 0]
        record['not_exhaustive'] = sorted(self._explicit(group))
        if not len(store.fact_ptr):
            return
        a, b = store.fact_ptr[image : image + 2].tolist()
        facts, confidence = store.fact_labels[a:b], store.fact_conf[a:b]
        present = set(facts[confidence == 1].tolist()) | self._explicit(labels)
        # A box or a positive outvotes a contradicting negative.
        record['verified_pos'] = sorted(present)
        record['verified_neg'] = sorted(set(facts[confidence == 0].tolist()) - present)
        record['image_level_labels'] = facts.astype(np.int64)
        record['confidences'] = confidence.copy()

    def _explicit(self, labels: np.ndarray) -> set[int]:
        """All labels of some rows, sets taken apart."""
        num_classes = self.store.num_classes
        found: set[int] = set()
        for label in set(labels.tolist()):
            sets = self.store.sets
            found.update((label,) if label < num_classes else sets[label - num_classes])
        return found

    def labels(self, image: int) -> list[int]:
        """Distinct labels of one image, those of sets taken apart."""
        a, b = self.store.image_ptr[image : image + 2].tolist()
        return sorted(self._explicit(self.store.labels[a:b]))

    def label_index(self) -> LabelIndex:
        """Labels of all images, straight from the columns."""
        store = self.store
        ignored = (store.flags & IGNORED_BIT) > 0
        index = LabelIndex(store.image_ptr, store.labels, ignored)
        if not store.sets:
            return index
        return _expand_sets(index, store.num_classes, store.sets)


def _expand_sets(index: LabelIndex, num_classes: int, sets: Sequence) -> LabelIndex:
    """Give an object with k labels k rows."""
    size = np.concatenate([np.ones(num_classes, int), [len(s) for s in sets]])
    num = size[index.labels]
    ends = np.zeros(len(num) + 1, dtype=np.int64)
    np.cumsum(num, out=ends[1:])
    is_first = np.zeros(ends[-1], dtype=bool)
    is_first[ends[:-1]] = True
    row = np.cumsum(is_first) - 1
    # Nearly all rows are one label: only the others are taken apart.
    labels = index.labels[row]
    several = np.flatnonzero(num > 1)
    flat = np.concatenate([np.zeros(0, int), *map(np.asarray, sets)])
    of_set = np.concatenate([[0], np.cumsum(size[num_classes:])])
    num = num[several]
    within = np.arange(num.sum()) - np.repeat(np.cumsum(num) - num, num)
    member = np.repeat(of_set[index.labels[several] - num_classes], num) + within
    labels[np.repeat(ends[several], num) + within] = flat[member]
    return LabelIndex(
        ends[index.image_ptr], labels, index.ignored[row], index.object_of_row()[row]
    )
