"""The config of a row: where it is, its overrides, and what a job reads from it."""

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdet_imbalance.cli.config import (
    check_option_keys,
    find_config,
    parse_options,
    read_config,
)
from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.reproduction.jobs import as_option
from mmdet_imbalance.reproduction.table import Setting

if TYPE_CHECKING:
    from mmengine.config import Config

#: The metric whose figures can be drawn anew from the detections that it writes.
OWN_METRIC = 'ImbalanceCocoMetric'

#: Rows share configs, and a seed changes none.
_read = functools.cache(read_config)


def config_path(name: str) -> Path:
    """Path of a config of the project, or of the host's where it says 'mmdet::…'."""
    if not name.startswith('mmdet::'):
        return find_config(name).absolute()
    import mmdet

    path = Path(mmdet.__file__).parent / '.mim' / 'configs' / name[len('mmdet::') :]
    if not path.is_file():
        raise ToolError(f'the host has no config {name[len("mmdet::") :]}')
    return path


def resolved_config(path: Path, overrides: dict[str, Any], where: str) -> 'Config':
    """The config with its overrides.

    Raises:
        ToolError: it cannot be read, a key is misspelt, or a value does not survive
            the command line.
    """
    cfg = _read(path).copy()
    options = parse_options([as_option(*item) for item in overrides.items()])
    for key, value in overrides.items():
        if json.dumps(options[key]) != json.dumps(value):
            raise ToolError(
                f'{where}: {key}: {value!r} would be read as {options[key]!r} on the '
                'command line'
            )
    try:
        check_option_keys(cfg, options)
    except ToolError as error:
        raise ToolError(f'{where}: {error}') from None
    cfg.merge_from_dict(options)
    return cfg


def annotation_key(cfg: 'Config', where: str) -> str:
    """Key of the training annotation, which wrappers put deeper."""
    key, node = 'train_dataloader.dataset', cfg.get('train_dataloader', {})
    node = node.get('dataset', {})
    while 'ann_file' not in node:
        if not isinstance(node.get('dataset'), dict):
            raise ToolError(f'{where}: the config has no training annotation to cut')
        key, node = f'{key}.dataset', node['dataset']
    return f'{key}.ann_file'


def without_seeds(cfg: 'Config', setting: Setting) -> Any:
    """Content of the config; seeds are in the folder's name, not in the hash."""
    if not setting.seeded:
        return cfg.to_dict()
    cfg = cfg.copy()
    cfg.merge_from_dict(dict.fromkeys(setting.seeded, 'seed'))
    return cfg.to_dict()


def own_evaluators(cfg: 'Config') -> tuple[str, ...]:
    """Keys of the evaluators that can write what a comparison reads."""
    found = []
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator = cfg.get(key)
        parts = evaluator if isinstance(evaluator, list) else [evaluator]
        for index, part in enumerate(parts):
            kind = str((part or {}).get('type')).split('.')[-1]
            if kind == OWN_METRIC and part.get('prefix') is None:
                inside = f'{key}.{index}' if isinstance(evaluator, list) else key
                found.append(inside)
                break
    return tuple(found)
