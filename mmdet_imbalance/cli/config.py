"""The config argument of a tool: found, read, overridden, checked for misspelt keys."""

import argparse
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdet_imbalance.cli.errors import ToolError

if TYPE_CHECKING:
    from mmengine.config import Config

PACKAGE = Path(__file__).resolve().parent.parent
#: What the host's runner reads at the top level of a config; everything else there is
#: a variable of the author's.
# fmt: off
RUNNER_KEYS = frozenset((
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader',
    'train_cfg', 'val_cfg', 'test_cfg', 'auto_scale_lr', 'optim_wrapper',
    'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher',
    'env_cfg', 'log_processor', 'log_level', 'visualizer', 'default_scope',
    'randomness', 'experiment_name', 'model_wrapper_cfg', 'find_unused_parameters',
    'sync_bn', 'compile', 'runner_type', 'activation_checkpointing',
    'efficient_conv_bn_eval', 'custom_imports', 'data_root', 'device',
))
# fmt: on
#: Two keys this alike, of which one is known, are taken for a slip of the pen.
SIMILARITY = 0.85


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `config`, `--data-root` and `--cfg-options`, which `load_config` reads."""
    parser.add_argument(
        'config', help='config file; also found inside the installed package'
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help="folder of the data, in place of the config's `data_root`",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_cfg.max_epochs=4 '
        'model.roi_head.bbox_head.num_classes=7 \'key="[a,b]"\'',
    )


def load_config(args: argparse.Namespace) -> 'Config':
    """Read the config that the command line names, with its overrides.

    Args:
        args: what a parser with `add_config_arguments` gave.

    Raises:
        ToolError: no such file, a file that does not parse, a misspelt key.
    """
    cfg = read_config(find_config(args.config))
    options = parse_options(args.cfg_options)
    data_root = options.pop('data_root', None)
    check_option_keys(cfg, options)
    cfg.merge_from_dict(options)
    data_root = args.data_root or data_root
    if data_root is not None:
        override_data_root(cfg, data_root)
    return cfg


def read_config(path: Path) -> 'Config':
    """Read a config file and check its keys.

    Raises:
        ToolError: no host, a file that does not parse, a misspelt key at the top level.
    """
    from mmdet_imbalance.host import check_host

    try:
        check_host()
    except ImportError as error:
        raise ToolError(str(error)) from error
    from mmengine.config import Config

    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ToolError(f'config {path} cannot be read: {reason}') from error
    check_top_level_keys(cfg)
    return cfg


def checked_file(path: str, what: str) -> str:
    """Return `path`, or raise ToolError when no such file is there.

    Args:
        path: a local file; addresses such as 'https://…' pass unchecked.
        what: what the file is, for the message: 'checkpoint', 'annotation file'.
    """
    if '://' not in path and not Path(path).expanduser().is_file():
        raise ToolError(f'{what} not found: {path} (working directory: {os.getcwd()})')
    return path


def find_config(name: str) -> Path:
    """Path of a config: as given, else inside the installed package or checkout."""
    for folder in (Path(), PACKAGE / '.mim', PACKAGE.parent):
        path = folder / name
        if path.is_file():
            if path.suffix not in ('.py', '.yml', '.yaml', '.json'):
                raise ToolError(f'config {name} must be a .py, .yml or .json file')
            return path
    folder = Path(name).parent
    if not folder.is_dir():
        folder = PACKAGE / '.mim' / folder
    siblings = [file.name for file in folder.glob('*.py')] if folder.is_dir() else []
    close = get_close_matches(Path(name).name, siblings, n=1)
    hint = f'; did you mean {Path(name).parent / close[0]}?' if close else ''
    raise ToolError(
        f'config not found: {name} (working directory: {os.getcwd()}){hint}'
    )


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE strings with the host's own rules."""
    for option in options:
        if '=' not in option:
            raise ToolError(f'--cfg-options takes KEY=VALUE, got {option!r}')
    if not options:
        return {}
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction)
    return parser.parse_args(['--options', *options]).options


def check_top_level_keys(cfg: 'Config') -> None:
    """Refuse a top-level dict or list whose name is almost one that the runner reads.

    The host ignores what it does not know, so `train_dataloder` would train on the
    data of the base config.
    """
    for key, value in cfg.items():
        if key in RUNNER_KEYS or not isinstance(value, dict | list):
            continue
        close = get_close_matches(key, RUNNER_KEYS, n=1, cutoff=SIMILARITY)
        if close and not key.endswith('_pipeline'):
            raise ToolError(
                f'{cfg.filename}: unknown top-level key {key!r}; did you mean '
                f'{close[0]!r}? (the host ignores keys that it does not know)'
            )


def check_option_keys(cfg: 'Config', options: dict[str, Any]) -> None:
    """Refuse an override that would silently make a new, misspelt key.

    A new key is legal where nothing of a similar name stands beside it: constructors
    have more arguments than a config writes.
    """
    for dotted in options:
        node: Any = cfg
        *parents, leaf = dotted.split('.')
        for depth, key in enumerate([*parents, leaf]):
            where = '.'.join(dotted.split('.')[:depth]) or 'the config'
            if isinstance(node, list | tuple):
                if not key.isdigit() or int(key) >= len(node):
                    raise ToolError(
                        f'--cfg-options {dotted}: {where} is a list of {len(node)}, '
                        f'{key!r} is no index of it'
                    )
                node = node[int(key)]
                continue
            if not isinstance(node, dict) and node is not cfg:
                raise ToolError(
                    f'--cfg-options {dotted}: {where} is {node!r}, it has no keys'
                )
            known = [*node.keys(), *(RUNNER_KEYS if node is cfg else ())]
            if key in known:
                node = node.get(key, {})
                continue
            close = get_close_matches(key, known, n=1, cutoff=SIMILARITY)
            if close or node is cfg:
                close = close or get_close_matches(key, known, n=1)
                hint = f'; did you mean {close[0]!r}?' if close else ''
                raise ToolError(
                    f'--cfg-options {dotted}: {where} has no key {key!r}{hint}'
                )
            break


def override_data_root(cfg: 'Config', data_root: str) -> None:
    """Point everything that lies in the config's `data_root` at another folder.

    `--cfg-options data_root=DIR` of the host changes a variable that was already
    substituted; here the datasets and metrics that were built from it follow.

    Raises:
        ToolError: no such folder, or a config without a top-level `data_root`.
    """
    old = cfg.get('data_root')
    if not isinstance(old, str) or not old:
        raise ToolError(
            f'{cfg.filename} has no top-level `data_root`, so --data-root has nothing '
            'to replace; name the files with --cfg-options'
        )
    if not Path(data_root).is_dir():
        raise ToolError(f'data folder not found: {data_root}')
    old, new = old.rstrip('/') + '/', str(data_root).rstrip('/') + '/'

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            if value == old or value == old[:-1]:
                return new
            return new + value[len(old) :] if value.startswith(old) else value
        if isinstance(value, dict):
            for key in list(value.keys()):
                value[key] = replaced(value[key])
            return value
        if isinstance(value, list):
            value[:] = [replaced(item) for item in value]
            return value
        if isinstance(value, tuple):
            return tuple(replaced(item) for item in value)
        return value

    for key in list(cfg.keys()):
        cfg[key] = replaced(cfg[key])
