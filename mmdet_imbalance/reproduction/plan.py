"""From a table and the options of the command line to its jobs."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

from mmdet_imbalance.cli.config import (
    check_option_keys,
    check_top_level_keys,
    find_config,
    parse_options,
)
from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.reproduction.jobs import Job, as_option
from mmdet_imbalance.reproduction.table_file import Row, Setting, Table

if TYPE_CHECKING:
    from mmengine.config import Config

#: The metric whose figures can be drawn anew from the detections that it writes.
OWN_METRIC = 'ImbalanceCocoMetric'
#: Name of a cut annotation in the folder of its job.
CUT_FILE = 'train.json'
PATTERN_FIELDS = ('seed', 'data', 'stock', 'setting')


@dataclass
class Request:
    """What of a table is asked for.

    Attributes:
        table: the table.
        scale: name of the scale.
        seeds: of every row.
        out: folder of the results.
        data_root: folder with a folder for each data set, or None for the configs' own.
        settings: names of the settings; empty for all of the scale.
        rows: names of the rows to run; empty for all.
        protocol: in place of the table's, or None.
        checkpoint: pattern of stock checkpoints with {seed}, {data}, {stock},
            {setting}; None trains them.
        train_options: further options of every training.
    """

    table: Table
    scale: str
    seeds: Sequence[int]
    out: Path
    data_root: Path | None = None
    settings: Sequence[str] = ()
    rows: Sequence[str] = ()
    protocol: str | None = None
    checkpoint: str | None = None
    train_options: Sequence[str] = ()


@dataclass
class Plan:
    """Jobs of a table.

    Attributes:
        request: what was asked for.
        settings: of the scale, as far as asked for.
        jobs: by setting and row, one for each seed.
    """

    request: Request
    settings: list[Setting]
    jobs: dict[tuple[str, str], list[Job]] = field(default_factory=dict)

    def selected(self) -> list[Job]:
        """Jobs of the rows that are to be run, baseline first, seed by seed."""
        names = set(self.request.rows)
        chosen = [
            job
            for (_, row), jobs in self.jobs.items()
            if not names or row in names
            for job in jobs
        ]
        # All rows of a seed before the next one: a table that is interrupted is still
        # one to read.
        return sorted(chosen, key=lambda job: list(self.request.seeds).index(job.seed))


def plan_table(request: Request) -> Plan:
    """Jobs of the rows and of all that they need.

    Raises:
        ToolError: a name that is not in the table, no data, a config or an override
            that does not resolve.
    """
    table, scale = request.table, request.scale
    if scale not in table.scales:
        raise ToolError(
            f'{table.path} has no scale {scale!r}, only {", ".join(table.scales)}'
        )
    by_name = {setting.name: setting for setting in table.scales[scale]}
    _check_known('--settings', request.settings, list(by_name))
    _check_known('--rows', request.rows, [row.name for row in table.rows])
    settings = [by_name[name] for name in request.settings or by_name]
    plan = Plan(request, settings)
    _check_pattern(plan)
    for setting in settings:
        for row in table.rows_in(setting):
            plan.jobs[setting.name, row.name] = [
                _row_job(plan, setting, row, seed) for seed in request.seeds
            ]
    return plan


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


def _row_job(plan: Plan, setting: Setting, row: Row, seed: int) -> Job:
    request = plan.request
    protocol = request.protocol or row.protocol or setting.protocol
    overrides = {**setting.overrides, **row.overrides}
    options = row.options if row.options is not None else setting.options
    if protocol != (row.protocol or setting.protocol):
        # Options of the other tool.
        options = ()
    job = _job(
        plan, setting, row.name, row.config(setting), overrides, seed, protocol, options
    )
    if protocol == 'retrain_head':
        stock = row.stock or next(iter(setting.stocks))
        job.stock = _stock(plan, setting, stock, seed)
        if job.stock is None:
            job.missing = f'no checkpoint at {_filled(request, setting, stock, seed)}'
    if row.uses is not None:
        other = _row_job(plan, setting, request.table.row(row.uses.row), seed)
        job.inputs[row.uses.key] = (other, row.uses.file)
        job.missing = job.missing or other.missing
    return job


def _job(plan, setting, name, config, overrides, seed, protocol, options) -> Job:
    request = plan.request
    where = f'{request.table.path}: {name} ({setting.name})'
    try:
        path = config_path(config)
    except ToolError as error:
        raise ToolError(f'{where}: {error}') from None
    overrides = {**overrides, **dict.fromkeys(setting.seeded, seed)}
    cfg = resolved_config(path, overrides, where)
    if protocol == 'train':
        options = (*options, *request.train_options)
    data_root = None if request.data_root is None else request.data_root / setting.data
    if data_root is not None and cfg.get('data_root') is None:
        data_root = None  # embedded data
    train_cfg = cfg.train_cfg
    job = Job(
        kind=protocol,
        label=f'{setting.name}: {name}',
        config=path,
        seed=seed,
        options=tuple(options),
        overrides=overrides,
        content=_without_seeds(cfg, setting),
        data_root=data_root,
        out=request.out,
        group=setting.name,
        final=train_cfg.get('max_epochs') or train_cfg.get('max_iters'),
        evaluators=_own_evaluators(cfg),
    )
    if setting.annotation is not None:
        cut = setting.annotation
        root = data_root or Path(cfg.data_root)
        job.inputs[_annotation_key(cfg, where)] = (
            Job(
                kind='annotation',
                label=f'{setting.name}: annotation',
                config=root / cut.file,
                seed=0,
                options=cut.options,
                overrides={},
                content=cut.file,
                data_root=root,
                out=request.out,
                group=setting.name,
            ),
            CUT_FILE,
        )
    return job


def _annotation_key(cfg: 'Config', where: str) -> str:
    """Key of the training annotation, which wrappers put deeper."""
    key, node = 'train_dataloader.dataset', cfg.get('train_dataloader', {})
    node = node.get('dataset', {})
    while 'ann_file' not in node:
        if not isinstance(node.get('dataset'), dict):
            raise ToolError(f'{where}: the config has no training annotation to cut')
        key, node = f'{key}.dataset', node['dataset']
    return f'{key}.ann_file'


def _without_seeds(cfg: 'Config', setting: Setting) -> Any:
    """Content of the config; seeds are in the folder's name, not in the hash."""
    if not setting.seeded:
        return cfg.to_dict()
    cfg = cfg.copy()
    cfg.merge_from_dict(dict.fromkeys(setting.seeded, 'seed'))
    return cfg.to_dict()


def _own_evaluators(cfg: 'Config') -> tuple[str, ...]:
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


@functools.cache
def _read(path: Path) -> 'Config':
    from mmdet_imbalance.host import check_host

    check_host()
    from mmengine.config import Config

    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ToolError(f'config {path} cannot be read: {reason}') from error
    check_top_level_keys(cfg)
    return cfg


# --- stock checkpoints ----------------------------------------------------------------
def _stock(plan: Plan, setting: Setting, name: str, seed: int) -> Job | Path | None:
    """The checkpoint that exists, the job that makes it, or None for neither."""
    request = plan.request
    if request.checkpoint is None:
        label = f'stock {name}'
        return _job(plan, setting, label, setting.stocks[name], {}, seed, 'train', ())
    pattern = _filled(request, setting, name, seed)
    found = sorted(glob(pattern))
    if len(found) > 1:
        raise ToolError(
            f'--checkpoint: {len(found)} files match {pattern}, the first are '
            f'{", ".join(found[:2])}: say more, e.g. with {{data}} or {{stock}}'
        )
    return Path(found[0]) if found else None


def _filled(request: Request, setting: Setting, stock: str, seed: int) -> str:
    return request.checkpoint.format(
        seed=seed, data=setting.data, stock=stock, setting=setting.name
    )


def _check_pattern(plan: Plan) -> None:
    """Refuse a pattern that gives one file to several data sets or detectors.

    One checkpoint for several seeds is no mistake; the report says so.
    """
    pattern = plan.request.checkpoint
    if pattern is None:
        return
    try:
        used = {
            name for _, name, _, _ in Formatter().parse(pattern) if name is not None
        }
    except ValueError as error:
        raise ToolError(f'--checkpoint {pattern}: {error}') from None
    unknown = used - set(PATTERN_FIELDS)
    if unknown:
        raise ToolError(
            f'--checkpoint {pattern}: only {{seed}}, {{data}}, {{stock}} and '
            f'{{setting}} are filled in, got {{{sorted(unknown)[0]}}}'
        )
    several = {
        'data': len({s.data for s in plan.settings}) > 1,
        'stock': any(len(_stocks_of(plan, s)) > 1 for s in plan.settings),
    }
    for name, is_needed in several.items():
        if (
            is_needed
            and name not in used
            and not (name == 'data' and 'setting' in used)
        ):
            raise ToolError(
                f'--checkpoint {pattern}: the table has several values of {name}, and '
                f'each has a checkpoint of its own: write {{{name}}} into the pattern'
            )


def _stocks_of(plan: Plan, setting: Setting) -> set[str]:
    first = next(iter(setting.stocks), '')
    return {row.stock or first for row in plan.request.table.rows_in(setting)}


def _check_known(option: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ToolError(f'{option} {name!r} is not in the table: {list(known)}')
