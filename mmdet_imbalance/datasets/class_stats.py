"""Class statistics of any dataset of the host, kept in a cache by content.

The cache folder is `$MMDET_IMBALANCE_CACHE`, else `$XDG_CACHE_HOME/mmdet_imbalance`,
else `~/.cache/mmdet_imbalance`. An entry is found by a hash of the records themselves
(after filters and subsets), of the class names, ancestors and groups, so nothing that
changes a count can meet a stale entry. What cannot be read is counted again.

What is counted are the images of the annotation: RepeatDataset and ClassBalancedDataset
show some of them several times and change no count. A ConcatDataset counts its parts.
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import MultiImageMixDataset
from mmengine.dataset import BaseDataset, ClassBalancedDataset, RepeatDataset
from mmengine.logging import print_log

from mmdet_imbalance.core.class_counting import count_classes
from mmdet_imbalance.core.class_stats import FREQ_THRESHOLDS, ClassStats
from mmdet_imbalance.datasets.category_groups import annotated_groups
from mmdet_imbalance.datasets.label_index import class_names, label_index, parts_of

CACHE_VARIABLE = 'MMDET_IMBALANCE_CACHE'
#: Part of every key: entries of another way of counting are never found.
COUNTING_VERSION = 1
#: Wrappers that show the images of one dataset, some of them several times.
REPEATING = (RepeatDataset, ClassBalancedDataset, MultiImageMixDataset)


def class_stats_of(
    dataset: Any,
    cache_dir: str | Path | None = None,
    use_cache: bool = True,
    freq_thresholds: tuple[int, int] | None = None,
) -> ClassStats:
    """Count the classes of a dataset, or read the counts of the same content.

    Groups come from `metainfo['frequency']`, else from the field `frequency` of a JSON
    annotation, else from the image counts; with `freq_thresholds` always from those.

    Args:
        dataset: any dataset that `label_index` takes.
        cache_dir: folder of the cache; None takes the default (module text).
        use_cache: False counts anew and leaves no entry.
        freq_thresholds: most training images of a rare and of a common class.

    Returns:
        The statistics, with the ancestors that the metainfo states.

    Raises:
        ValueError: a dataset without class names, or labels that are none of them.
    """
    dataset = distinct_images(dataset)
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    names = class_names(dataset)
    if not names:
        raise ValueError(
            f'{type(dataset).__name__} names no classes; give it '
            '`metainfo=dict(classes=...)`'
        )
    ancestors = ancestors_of(dataset, len(names))
    records = records_of(dataset)
    groups = None if freq_thresholds else groups_of(dataset, records, names)
    content = content_hash(records) if use_cache else None
    path = None
    if content is not None:
        key = _key(content, names, ancestors, groups, freq_thresholds)
        path = Path(cache_dir or default_cache_dir()) / 'class_stats' / f'{key}.json'
        cached = _read(path, names)
        if cached is not None:
            return cached
    stats = count_classes(label_index(records), names, ancestors)
    by_count = stats.groups_by_count(tuple(freq_thresholds or FREQ_THRESHOLDS))
    stated = np.array(groups or [''] * len(names))
    stats.freq_group = np.where(stated == '', by_count, stated)
    if path is not None:
        _write(path, stats)
    return stats


def default_cache_dir() -> Path:
    """Folder for what can be made again; see the module's text."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    shared = os.environ.get('XDG_CACHE_HOME')
    return (Path(shared) if shared else Path.home() / '.cache') / 'mmdet_imbalance'


def distinct_images(dataset: Any) -> Any:
    """The dataset behind wrappers that only repeat or mix its images."""
    while isinstance(dataset, REPEATING):
        dataset = dataset.dataset
    return dataset


def ancestors_of(dataset: Any, num_classes: int) -> np.ndarray | None:
    """Ancestor matrix that the metainfo of a dataset states, or None.

    Args:
        dataset: any dataset; of joined ones all parts must agree.
        num_classes: number C of classes.

    Returns:
        bool (C, C), [child, ancestor], from `ancestor_matrix` or from the host's
        `RELATION_MATRIX`.
    """
    found = []
    for metainfo in _all_metainfo(dataset):
        matrix = metainfo.get('ancestor_matrix', metainfo.get('RELATION_MATRIX'))
        found.append(None if matrix is None else np.asarray(matrix).astype(bool))
    for k, matrix in enumerate(found):
        if matrix is not None and matrix.shape != (num_classes, num_classes):
            raise ValueError(
                '`ancestor_matrix` of the metainfo must have shape '
                f'({num_classes}, {num_classes}), got {matrix.shape}'
            )
        same = matrix is found[0] or (
            matrix is not None
            and found[0] is not None
            and np.array_equal(matrix, found[0])
        )
        if not same:
            raise ValueError(
                f'dataset {k} of a ConcatDataset has another class hierarchy than '
                'dataset 0; give all parts the same hierarchy file'
            )
    return found[0] if found else None


def records_of(dataset: Any) -> Any:
    """The dataset that holds the records, behind wrappers that add metainfo only."""
    while getattr(dataset, 'adds_only_metainfo', False):
        dataset = distinct_images(dataset.dataset)
    return dataset


def groups_of(dataset: Any, records: Any, names: tuple[str, ...]) -> list[str] | None:
    """Frequency groups that the metainfo or the annotation file states.

    Args:
        dataset: the dataset with the metainfo.
        records: the dataset with the annotation file.
        names: the C classes of `dataset`.

    Returns:
        'r', 'c', 'f' or, where none is stated, '' for each class; or None.
    """
    stated = next(_all_metainfo(dataset), {}).get('frequency')
    if stated is None:
        ann_file = getattr(records, 'ann_file', None)
        own_names = class_names(records)
        if isinstance(ann_file, str) and own_names:
            stated = annotated_groups(ann_file, own_names)
    if stated is None:
        return None
    stated = [group or '' for group in stated]
    unknown = set(stated) - {'r', 'c', 'f', ''}
    if unknown or len(stated) > len(names):
        raise ValueError(
            f"`frequency` must give 'r', 'c' or 'f' for each of {len(names)} classes, "
            f'got {stated!r:.80}'
        )
    return stated + [''] * (len(names) - len(stated))


def content_hash(dataset: Any) -> str | None:
    """Hash of all records of a dataset, or None where that is no cheaper than counting.

    A dataset may offer `content_hash()` itself.
    """
    own = getattr(dataset, 'content_hash', None)
    if callable(own):
        return own()
    parts = parts_of(dataset)
    if parts is not None:
        hashes = [content_hash(part) for part in parts]
        return None if None in hashes else _hash('concat', *hashes)
    if not isinstance(dataset, BaseDataset) or not dataset.serialize_data:
        return None
    if type(dataset).get_data_info is not BaseDataset.get_data_info:
        return None
    if callable(getattr(dataset, 'label_index', None)):
        return None
    return _hash(dataset.data_address, dataset.data_bytes)


def _all_metainfo(dataset: Any):
    parts = parts_of(dataset)
    if parts is not None:
        for part in parts:
            yield from _all_metainfo(part)
        return
    metainfo = getattr(dataset, 'metainfo', None)
    if isinstance(metainfo, dict):
        yield metainfo
    elif hasattr(dataset, 'dataset'):
        yield from _all_metainfo(dataset.dataset)


def _hash(*pieces) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        if isinstance(piece, str):
            piece = piece.encode()
        else:
            piece = np.ascontiguousarray(piece).view(np.uint8).data
        digest.update(len(piece).to_bytes(8, 'little'))
        digest.update(piece)
    return digest.hexdigest()


def _key(content, names, ancestors, groups, thresholds) -> str:
    ancestors = np.zeros(0) if ancestors is None else np.packbits(ancestors)
    words = [str(COUNTING_VERSION), content, '\0'.join(names), str(groups)]
    return _hash(*words, str(thresholds), ancestors)


def _read(path: Path, names: tuple[str, ...]) -> ClassStats | None:
    if not path.is_file():
        return None
    try:
        stats = ClassStats.load(path)
        stats.check_classes(names)
    except (OSError, ValueError) as error:
        print_log(
            f'class statistics in the cache cannot be used, counting again: {error}',
            logger='current',
            level=logging.WARNING,
        )
        return None
    return stats


def _write(path: Path, stats: ClassStats) -> None:
    try:
        stats.save(path)
    except OSError as error:
        # A cache that cannot be written costs time at the next start, no more.
        print_log(
            f'class statistics are not cached: {error}',
            logger='current',
            level=logging.WARNING,
        )
