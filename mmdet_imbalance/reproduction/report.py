"""A table as Markdown and as CSV."""

import math
from collections.abc import Sequence

from mmdet_imbalance.evaluation.tables import csv_table, markdown_table
from mmdet_imbalance.reproduction.commands import shell_line
from mmdet_imbalance.reproduction.jobs import Job, file_digest
from mmdet_imbalance.reproduction.plan import Plan
from mmdet_imbalance.reproduction.summary import RowSummary, verdict
from mmdet_imbalance.reproduction.table import Row, Setting, Table
from mmdet_imbalance.reproduction.table_file import NOT_AVAILABLE

Summaries = Sequence[tuple[Setting, list[RowSummary]]]


def markdown(plan: Plan, summaries: Summaries, confidence: float) -> str:
    """The whole report."""
    table = plan.request.table
    parts = [f'# {table.title}', f'{table.paper}. Scale: {plan.request.scale}.']
    if table.note:
        parts.append(table.note)
    parts.append(
        '*Published* figures are those of the sources named below, on their data and '
        'schedules; all others were measured by this run. Figures in percent.'
    )
    for setting, rows in summaries:
        parts += _setting_parts(plan, setting, rows, confidence)
    parts += _published_part([row for _, rows in summaries for row in rows])
    return '\n\n'.join(parts) + '\n'


def _setting_parts(plan, setting, rows, confidence) -> list[str]:
    table = plan.request.table
    parts = [f'## {setting.name}', _protocol_line(plan, setting)]
    if setting.note:
        parts.append(setting.note)
    shown = _defined_metrics(setting, rows)
    headings = [setting.metrics[key] for key in shown]
    header = ['row', 'published', 'seeds', *headings, 'min a run']
    lines = []
    for row in rows:
        name = row.row.name
        mark = ' (baseline)' if name == table.baseline else ''
        cells = [_spread(row, key) for key in shown]
        state = str(len(row.seeds))
        if row.failures:
            state += f', {len(row.failures)} failed'
        if row.open_seeds:
            state += f', {len(row.open_seeds)} not run'
        minutes = '-' if math.isnan(row.seconds) else f'{row.seconds / 60:.1f}'
        lines.append([name + mark, published_cell(row.row), state, *cells, minutes])
    parts.append(markdown_table(header, lines))
    parts.append('± is the standard deviation over seeds; `-` is not defined.')
    moved = _difference_rows(table, setting, rows)
    if moved:
        percent = f'{100 * confidence:g} %'
        header = ['row', 'figure', 'before', 'after', 'difference']
        header += [f'over seeds, {percent}', f'over images, {percent}', 'verdict']
        parts.append(
            'Differences, seed by seed; *within noise* where an interval includes 0. '
            'Intervals over seeds: paired t; over images: bootstrap.'
        )
        parts.append(markdown_table(header, moved))
    notes = [f'* {row.row.name}: {row.row.note}' for row in rows if row.row.note]
    if notes:
        parts.append('\n'.join(notes))
    failed = [
        f'* **failed**: {row.row.name}, seed {seed}: {line} (log: `{log}`)'
        for row in rows
        for seed, (line, log) in row.failures.items()
    ]
    if failed:
        parts.append('\n'.join(failed))
    return parts


def _defined_metrics(setting: Setting, rows: Sequence[RowSummary]) -> list[str]:
    """Metrics that some row has, e.g. no APr where no class is rare."""
    if not any(row.seeds for row in rows):
        return list(setting.metrics)
    return [
        key
        for key in setting.metrics
        if any(not math.isnan(v) for row in rows for v in row.values[key].values())
    ]


def _protocol_line(plan: Plan, setting: Setting) -> str:
    """How rows were run, in words."""
    request = plan.request
    protocol = request.protocol or setting.protocol
    seeds = ', '.join(str(seed) for seed in request.seeds)
    if protocol == 'train':
        how = 'Every row trained'
    else:
        options = shell_line(setting.options)
        how = (
            'Every row is a head re-trained on the frozen features of the stock '
            f'checkpoint of its seed (`tools/retrain_head.py {options}`)'
        )
        num_stocks = _num_stocks(plan, setting)
        if num_stocks < len(request.seeds):
            how += (
                f'; only {num_stocks} of {len(request.seeds)} stock checkpoints '
                'differ, so intervals over seeds lack the noise of training them'
            )
    cut = setting.annotation
    if cut is not None:
        how += (
            f', on `{cut.file}` cut by `tools/make_longtail.py '
            f'{shell_line(cut.options)}`'
        )
    return f'{how}; seeds {seeds}.'


def _num_stocks(plan: Plan, setting: Setting) -> int:
    """Different stock checkpoints of the baseline over the seeds."""
    jobs = plan.jobs[setting.name, plan.request.table.baseline]
    return len(
        {
            job.stock.folder if isinstance(job.stock, Job) else file_digest(job.stock)
            for job in jobs
            if job.stock is not None
        }
    ) + sum(job.stock is None for job in jobs)


def published_cell(row: Row) -> str:
    """Published figures of a row with what they are of."""
    if not row.published:
        return NOT_AVAILABLE
    return '; '.join(f'{item.value:g} ({item.figure})' for item in row.published)


def _published_part(rows: Sequence[RowSummary]) -> list[str]:
    lines = [
        f'* {row.row.name}: {item.value:g}, {item.figure}: {item.source}'
        for row in rows
        for item in row.row.published
    ]
    if not lines:
        return []
    return ['## Sources of published figures', '\n'.join(dict.fromkeys(lines))]


def _spread(row: RowSummary, key: str) -> str:
    mean, spread = row.mean(key), row.spread(key)
    if math.isnan(mean):
        return '-'
    text = f'{100 * mean:.1f}'
    return text if math.isnan(spread) else f'{text} ± {100 * spread:.1f}'


def _difference_rows(
    table: Table, setting: Setting, rows: Sequence[RowSummary]
) -> list[list[str]]:
    lines = []
    for row in rows:
        for key, item in row.differences.items():
            if math.isnan(item.difference):
                continue
            num_seeds = 1 if item.seed_interval is None else 2
            lines.append(
                [
                    f'{row.row.name} - {table.against(row.row)}',
                    setting.metrics[key],
                    f'{100 * item.baseline:.1f}',
                    f'{100 * item.other:.1f}',
                    f'{100 * item.difference:+.1f}',
                    _interval(item.seed_interval),
                    _interval(item.image_interval),
                    verdict(item, num_seeds),
                ]
            )
    return lines


def _interval(bounds: tuple[float, float] | None) -> str:
    if bounds is None or math.isnan(bounds[0]):
        return '-'
    return f'{100 * bounds[0]:+.1f} .. {100 * bounds[1]:+.1f}'


def csv(plan: Plan, summaries: Summaries) -> str:
    """One line for each setting, row and metric; values in [0, 1], full precision."""
    header = ['setting', 'row', 'metric', 'published', 'published_figure', 'source']
    header += ['num_seeds', 'mean', 'sd', 'values', 'against', 'difference']
    header += ['seeds_low']
    header += ['seeds_high', 'images_low', 'images_high', 'verdict', 'num_failed']
    header += ['seconds']
    lines = []
    for setting, rows in summaries:
        for row in rows:
            for key in setting.metrics:
                item = row.differences.get(key)
                same = [p for p in row.row.published if p.metric == key]
                published = [None, NOT_AVAILABLE, None]
                if same:
                    # In the unit of the measured figure.
                    value = same[0].value / 100
                    published = [value, same[0].figure, same[0].source]
                values = row.values[key]
                seeds = (item and item.seed_interval) or (None, None)
                images = item.image_interval if item else (None, None)
                num_seeds = 1 if item and item.seed_interval is None else 2
                lines.append(
                    [
                        *(setting.name, row.row.name, key, *published),
                        *(len(values), row.mean(key), row.spread(key)),
                        ' '.join(f'{seed}:{value!r}' for seed, value in values.items()),
                        plan.request.table.against(row.row),
                        *(item.difference if item else None, *seeds, *images),
                        verdict(item, num_seeds) if item else None,
                        *(len(row.failures), row.seconds),
                    ]
                )
    return csv_table(header, lines)
