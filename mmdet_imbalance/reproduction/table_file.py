"""Reading a table file: YAML, described in `docs/reproduce.md`.

Everything is checked that can be without the host: a mistake is one line that names the
file and the key.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.reproduction.schema import Node
from mmdet_imbalance.reproduction.table import (
    Annotation,
    Published,
    Row,
    Setting,
    Table,
    Uses,
)

NOT_AVAILABLE = 'not available'
PROTOCOLS = ('train', 'retrain_head')


def read_table(path: str | Path) -> Table:
    """Read and check a table file.

    Raises:
        ToolError: one line with the file and the key.
    """
    path = Path(path)
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        reason = ' '.join(str(error).split())
        raise ToolError(f'{path} is no valid YAML: {reason}') from None
    top = Node(path, '', content)
    top.keys('title', 'paper', 'baseline', 'scales', 'rows', maybe=('seeds', 'note'))
    rows = tuple(_row(node) for node in top.at('rows').items())
    scales = {
        key: tuple(_settings(key, node)) for key, node in top.at('scales').entries()
    }
    table = Table(
        path=path,
        title=top.at('title').text(),
        paper=top.at('paper').text(),
        baseline=top.at('baseline').text(),
        seeds=_seeds(top),
        scales=scales,
        rows=rows,
        note=top.at('note').text() if top.has('note') else '',
        _index={row.name: row for row in rows},
    )
    _check_names(top, table)
    return table


def _seeds(top: Node) -> tuple[int, ...]:
    if not top.has('seeds'):
        return (0, 1, 2)
    node = top.at('seeds')
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return tuple(range(node.whole(least=1)))
    seeds = tuple(child.whole(least=0) for child in node.items())
    if len(set(seeds)) != len(seeds):
        node.fail(f'a seed stands twice in {list(seeds)}')
    return seeds


def _settings(scale: str, node: Node) -> Sequence[Setting]:
    """Settings of a scale: what it says holds for each, unless that says otherwise."""
    maybe = ('protocol', 'options', 'stocks', 'metrics', 'overrides', 'seeded', 'note')
    node.keys('settings', maybe=maybe)
    children = node.at('settings')
    if isinstance(children.value, list):
        names = [child.text() for child in children.items()]
        children.value = {name: None for name in names}
    settings = []
    for name, own in children.entries():
        own.value = own.value or {}
        own.keys(maybe=(*maybe, 'data', 'annotation'))

        def get(key: str, own: Node = own) -> Node | None:
            if own.has(key):
                return own.at(key)
            return node.at(key) if node.has(key) else None

        data = own.at('data').text() if own.has('data') else name
        protocol = get('protocol')
        kind = 'train' if protocol is None else protocol.one_of(PROTOCOLS)
        stocks = get('stocks')
        if kind == 'retrain_head' and stocks is None:
            own.fail('`protocol: retrain_head` needs `stocks`, a config by name')
        metrics = get('metrics')
        if metrics is None:
            own.fail('`metrics` is absent: headings by key of the metric')
        options, overrides, seeded = get('options'), get('overrides'), get('seeded')
        note = get('note')
        settings.append(
            Setting(
                name=name,
                scale=scale,
                data=data,
                protocol=kind,
                options=() if options is None else _words(options),
                stocks={
                    key: child.text().replace('{data}', data)
                    for key, child in (stocks.entries() if stocks else ())
                },
                metrics={key: child.text() for key, child in metrics.entries()},
                overrides={} if overrides is None else _overrides(overrides),
                seeded=()
                if seeded is None
                else tuple(child.text() for child in seeded.items()),
                annotation=_annotation(own) if own.has('annotation') else None,
                note='' if note is None else note.text(),
            )
        )
    return settings


def _annotation(setting: Node) -> Annotation:
    node = setting.at('annotation')
    node.keys('file', 'options')
    return Annotation(node.at('file').text(), _words(node.at('options')))


def _row(node: Node) -> Row:
    maybe = ('overrides', 'options', 'protocol', 'stock', 'uses', 'against', 'note')
    node.keys('name', 'configs', 'published', maybe=maybe)
    values: dict[str, Any] = {
        key: node.at(key).text()
        for key in ('stock', 'against', 'note')
        if node.has(key)
    }
    if node.has('options'):
        values['options'] = _words(node.at('options'))
    if node.has('protocol'):
        values['protocol'] = node.at('protocol').one_of(PROTOCOLS)
    if node.has('uses'):
        uses = node.at('uses')
        uses.keys('row', 'file', 'key')
        values['uses'] = Uses(*(uses.at(k).text() for k in ('row', 'file', 'key')))
    return Row(
        name=node.at('name').text(),
        configs={key: child.text() for key, child in node.at('configs').entries()},
        published=_published(node.at('published')),
        overrides=_overrides(node.at('overrides')) if node.has('overrides') else {},
        **values,
    )


def _published(node: Node) -> tuple[Published, ...]:
    """A figure without source is refused: it would be taken for a fact."""
    if node.value == NOT_AVAILABLE:
        return ()
    found = []
    for child in node.items() if isinstance(node.value, list) else [node]:
        if not isinstance(child.value, dict):
            child.fail(
                f'must be `{NOT_AVAILABLE}` or value, figure and source, '
                f'got {child.value!r}'
            )
        child.keys('value', 'figure', 'source', maybe=('metric',))
        figure, source = child.at('figure').text(), child.at('source').text()
        if 'unverified' in f'{figure} {source}'.lower():
            child.fail(f'an unverified figure must not be quoted: `{NOT_AVAILABLE}`')
        metric = child.at('metric').text() if child.has('metric') else None
        found.append(Published(child.at('value').number(), figure, source, metric))
    return tuple(found)


def _overrides(node: Node) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if node.value == {}:
        return values
    for key, child in node.entries():
        child.check_plain()
        values[key] = child.value
    return values


def _words(node: Node) -> tuple[str, ...]:
    """Words of a command line."""
    if node.value is None:
        return ()
    try:
        return tuple(shlex.split(node.text()))
    except ValueError as error:
        node.fail(f'cannot be split into words ({error})')


def _check_names(top: Node, table: Table) -> None:
    """Names that point to something point to something."""
    names = [row.name for row in table.rows]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        top.at('rows').fail(f'two rows are called {doubled[0]!r}')
    top.at('baseline').one_of(names)
    settings = [s for some in table.scales.values() for s in some]
    places = {s.name for s in settings} | set(table.scales)
    for row, node in zip(table.rows, top.at('rows').items(), strict=True):
        for key, child in node.at('configs').entries():
            if key not in places:
                child.fail(f'no scale or setting of this name, only {sorted(places)}')
        if row.against is not None:
            node.at('against').one_of([name for name in names if name != row.name])
        if row.uses is not None:
            node.at('uses').at('row').one_of(names)
            if row.uses.row == row.name:
                node.at('uses').fail('a row cannot use itself')
        for setting in settings:
            if row.config(setting) is None:
                continue
            is_head = (row.protocol or setting.protocol) == 'retrain_head'
            if is_head and row.stock is not None:
                node.at('stock').one_of(list(setting.stocks))
            for item in row.published:
                if item.metric is not None and item.metric not in {
                    key for s in settings for key in s.metrics
                }:
                    node.at('published').fail(
                        f'`metric` {item.metric!r} is no key of any `metrics`'
                    )
    for setting in settings:
        if table.row(table.baseline).config(setting) is None:
            top.at('baseline').fail(
                f'{table.baseline!r} has no config for the setting {setting.name!r}'
            )
