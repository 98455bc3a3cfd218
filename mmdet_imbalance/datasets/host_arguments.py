"""Arguments of the host's `BaseDetDataset` that its subclasses have to honour."""

from collections.abc import Mapping
from typing import Any


def refuse_remote_files(backend_args: Mapping | None) -> None:
    """Raise ValueError for annotation files that do not lie on a disk.

    Args:
        backend_args: of the host's file backends; the local one is what is read anyway.
    """
    if backend_args and backend_args.get('backend') != 'local':
        raise ValueError(
            'annotation files are read from the local disk, and the images by the '
            'loading step of the pipeline: give it the `backend_args`, and leave them '
            f'out of the dataset, got {dict(backend_args)!r}'
        )


def filter_options(filter_cfg: Mapping) -> tuple[bool, int]:
    """Whether images without objects are dropped, and the least size of those kept.

    Args:
        filter_cfg: with `filter_empty_gt` and `min_size` in pixels, or a part of them.

    Raises:
        ValueError: another key.
    """
    unknown = set(filter_cfg) - {'filter_empty_gt', 'min_size'}
    if unknown:
        raise ValueError(
            f'`filter_cfg` knows filter_empty_gt and min_size, got {sorted(unknown)}'
        )
    return filter_cfg.get('filter_empty_gt', False), filter_cfg.get('min_size', 0)


def add_class_texts(record: dict[str, Any], dataset) -> None:
    """Give a record what open-vocabulary detectors of the host ask for.

    Args:
        record: of one image.
        dataset: with the host's `return_classes` and `caption_prompt`.
    """
    if dataset.return_classes:
        # Not `metainfo`: the host copies all of it at every access.
        record['text'] = dataset._metainfo['classes']
        record['caption_prompt'] = dataset.caption_prompt
        record['custom_entities'] = True
