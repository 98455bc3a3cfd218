"""From a table and the options of the command line to its jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from string import Formatter

from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.reproduction.jobs import Job
from mmdet_imbalance.reproduction.row_config import (
    annotation_key,
    config_path,
    own_evaluators,
    resolved_config,
    without_seeds,
)
from mmdet_imbalance.reproduction.table import Row, Setting, Table

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
        content=without_seeds(cfg, setting),
        data_root=data_root,
        out=request.out,
        group=setting.name,
        final=train_cfg.get('max_epochs') or train_cfg.get('max_iters'),
        evaluators=own_evaluators(cfg),
    )
    if setting.annotation is not None:
        cut = setting.annotation
        root = data_root or Path(cfg.data_root)
        job.inputs[annotation_key(cfg, where)] = (
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
