"""The label index of any dataset of the host, through its wrappers.

Position i of the index is position i of the dataset as it is drawn from: a wrapper that
repeats, joins or picks images is followed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
)
from torch.utils.data import ConcatDataset as TorchConcatDataset
from torch.utils.data import Subset

from mmdet_imbalance.core.label_index import LabelIndex

#: Label of the host's CrowdHuman dataset for ignored regions: no row of any class.
NO_CLASS = -1
#: What says that a row is no object; the host's Challenge dataset has the plural.
IGNORE_FLAGS = ('ignore_flag', 'is_group_of', 'is_group_ofs')


def label_index(dataset: Any) -> LabelIndex:
    """Labels of every image that a dataset gives.

    Args:
        dataset: any detection dataset of the host, or a wrapper of one: ConcatDataset,
            RepeatDataset, ClassBalancedDataset, MultiImageMixDataset, torch's Subset,
            nested as you like. A dataset with a method `label_index()` is asked.

    Returns:
        One entry an image. Rows with a true `ignore_flag` are marked as ignored, and
        group-of boxes of the host's Open Images datasets, which set no such flag: they
        are no object of their own, although the host trains on them.

    Raises:
        ValueError: joined datasets of different classes, a record without labels, a
            label outside the dataset's classes.
        TypeError: an object that gives no records.
    """
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    own = getattr(dataset, 'label_index', None)
    if callable(own):
        index = own()
    elif isinstance(dataset, (ConcatDataset, TorchConcatDataset)):
        class_names(dataset)
        index = LabelIndex.concatenate([label_index(part) for part in dataset.datasets])
    elif isinstance(dataset, RepeatDataset):
        inner = label_index(dataset.dataset)
        index = inner.select(np.tile(np.arange(len(inner)), dataset.times))
    elif isinstance(dataset, ClassBalancedDataset):
        index = label_index(dataset.dataset).select(dataset.repeat_indices)
    elif isinstance(dataset, Subset):
        index = label_index(dataset.dataset).select(list(dataset.indices))
    elif _is_mixing_wrapper(dataset):
        index = label_index(dataset.dataset)
    else:
        index = _index_of_records(dataset)
    names = class_names(dataset)
    if names is not None:
        index.check_labels(names)
    return index


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Names of the classes of a dataset, through its wrappers; None where it has none.

    Raises:
        ValueError: joined datasets whose classes differ: label 3 of one is not label 3
            of the other, whatever is counted.
    """
    parts = parts_of(dataset)
    if parts is not None:
        names = [class_names(part) for part in parts]
        for k, other in enumerate(names):
            if other != names[0]:
                raise ValueError(
                    f'dataset {k} of a ConcatDataset has other classes than dataset 0 '
                    f'({_brief(other)} against {_brief(names[0])}); give all of them '
                    'the same `metainfo=dict(classes=...)`'
                )
        return names[0] if names else None
    if isinstance(dataset, Subset):
        return class_names(dataset.dataset)
    metainfo = getattr(dataset, 'metainfo', None) or {}
    if isinstance(metainfo, dict):
        names = metainfo.get('classes')
        return None if names is None else tuple(names)
    return class_names(dataset.dataset)


def parts_of(dataset: Any) -> Sequence | None:
    """The datasets that a ConcatDataset joins; None for everything else."""
    joins = isinstance(dataset, (ConcatDataset, TorchConcatDataset))
    return dataset.datasets if joins else None


def _is_mixing_wrapper(dataset: Any) -> bool:
    """A wrapper that gives one image for one image: MultiImageMixDataset and alike."""
    inner = getattr(dataset, 'dataset', None)
    return (
        inner is not None
        and not isinstance(dataset, BaseDataset)
        and hasattr(inner, '__len__')
        and len(inner) == len(dataset)
    )


def _index_of_records(dataset: Any) -> LabelIndex:
    """Read every record once; no image is loaded."""
    if not hasattr(dataset, 'get_data_info'):
        raise TypeError(
            f'cannot read labels of a {type(dataset).__name__}: it has neither '
            '`label_index()` nor `get_data_info(index)`'
        )
    records = _plain_records(dataset)
    image_ptr, labels, ignored = [0], [], []
    for position in range(len(dataset)):
        if records is None:
            record = dataset.get_data_info(position)
        else:
            record = records[position]
        if 'instances' not in record:
            raise ValueError(
                f'image {position} of {type(dataset).__name__} has no `instances`: not '
                'a dataset of boxes'
            )
        for instance in record['instances']:
            is_ignored = any(instance.get(flag, 0) for flag in IGNORE_FLAGS)
            if is_ignored and instance.get('bbox_label') == NO_CLASS:
                continue
            labels.append(_label(instance, position, record))
            ignored.append(is_ignored)
        image_ptr.append(len(labels))
    return LabelIndex(
        np.array(image_ptr, dtype=np.int64),
        np.array(labels, dtype=np.int64),
        np.array(ignored, dtype=bool),
    )


def _plain_records(dataset: Any) -> Sequence[dict] | None:
    """Records that can be looked at without copying each, where there are such."""
    if not isinstance(dataset, BaseDataset) or dataset.serialize_data:
        return None
    # A subclass may make up records on demand: then only it knows them.
    own = type(dataset).get_data_info is not BaseDataset.get_data_info
    return None if own else dataset.data_list


def _label(instance: dict, position: int, record: dict) -> int:
    label = instance.get('bbox_label')
    is_integer = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
    if is_integer and label >= 0:
        return int(label)
    raise ValueError(
        f'image {position} ({record.get("img_path", "no path")}): `bbox_label` must be '
        f'an integer from 0 on, got {label!r}'
    )


def _brief(names: Sequence[str] | None) -> str:
    if names is None:
        return 'no classes'
    return f'{len(names)} classes: {", ".join(map(str, names[:4]))}...'
