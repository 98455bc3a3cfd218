"""Table files: those of the project run as they stand, mistakes are one line."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.reproduction.plan import Request, plan_table
from mmdet_imbalance.reproduction.row_config import config_path
from mmdet_imbalance.reproduction.row_config import resolved_config as resolve
from mmdet_imbalance.reproduction.table import Row, Setting
from mmdet_imbalance.reproduction.table_file import read_table
from tests.helpers.config_files import CONFIG_DIR, find_type
from tests.helpers.shrunken_configs import shrink
from tests.helpers.tools import load_tool

FILES = sorted((CONFIG_DIR / 'tables').glob('*.yml'))
#: What issue and paper ask for; a table that is lost is noticed.
EXPECTED = {
    'affinity', 'class_aware_selective', 'class_balanced', 'concurrent_softmax',
    'foreground_balanced', 'gfl', 'ghm', 'hard_sampling', 'pisa', 'soft_balance',
}  # fmt: skip
#: Metrics of the host by the prefix of their keys, and what follows it.
HOST_KEYS = {
    'CocoMetric': r'coco/bbox_mAP(_50|_75|_s|_m|_l)?',
    'LVISMetric': r'lvis/(bbox|segm)_AP(50|75|s|m|l|r|c|f)?',
    'OpenImagesMetric': r'openimages/(mAP|AP50)',
}
OWN_KEY = r'AP(50|75|s|m|l|r|c|f)?'


@pytest.fixture(autouse=True)
def host_scope(monkeypatch):
    init_default_scope('mmdet')
    # Laying out a config takes longer than building it.
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)
    )


@cache
def cases() -> list[tuple[Path, Setting, Row]]:
    """Every row in every setting of every table."""
    return [
        (path, setting, row)
        for path in FILES
        for table in [read_table(path)]
        for settings in table.scales.values()
        for setting in settings
        for row in table.rows_in(setting)
    ]


def case_id(case) -> str:
    path, setting, row = case
    return f'{path.stem}-{setting.name}-{row.name}'


def with_overrides():
    """Cases that no test of the configs covers, each config and override once."""
    seen = set()
    for path, setting, row in cases():
        what = (row.config(setting), str({**setting.overrides, **row.overrides}))
        if row.overrides and what not in seen:
            seen.add(what)
            is_small = setting.scale == 'small'
            yield pytest.param(
                (path, setting, row),
                id=case_id((path, setting, row)),
                marks=() if is_small else pytest.mark.slow,
            )


def config_of(setting: Setting, row: Row) -> Config:
    overrides = {**setting.overrides, **row.overrides}
    overrides |= dict.fromkeys(setting.seeded, 0)
    return resolve(config_path(row.config(setting)), overrides, row.name)


def test_every_paper_has_its_table():
    assert {path.stem for path in FILES} >= EXPECTED


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_table_can_be_planned_at_its_scales(path, tmp_path):
    table = read_table(path)
    assert set(table.scales) <= {'small', 'paper'}
    assert path.stem not in EXPECTED or len(table.scales) == 2
    for scale in table.scales:
        plan = plan_table(Request(table, scale, table.seeds, tmp_path))
        for setting in plan.settings:
            rows = [row.name for row in table.rows_in(setting)]
            assert len(rows) >= 2
            # Two rows with the same key would be one row under two names.
            keys = [plan.jobs[setting.name, name][0].key for name in rows]
            assert len(set(keys)) == len(keys), (setting.name, rows)
            folders = [str(job.folder) for name in rows
                       for job in plan.jobs[setting.name, name]]  # fmt: skip
            assert len(set(folders)) == len(rows) * len(table.seeds)
            for row in table.rows_in(setting):
                against = table.against(row)
                assert against is None or against in rows, (setting.name, row.name)


@pytest.mark.parametrize('case', with_overrides())
def test_row_builds_with_its_overrides(case, tmp_path):
    _, setting, row = case
    resolved = tmp_path / 'resolved.py'
    config_of(setting, row).dump(str(resolved))
    cfg = Config.fromfile(str(shrink(str(resolved), tmp_path)))
    model = MODELS.build(cfg.model)
    assert any(p.requires_grad for p in model.parameters())
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    assert len(list(iter(loader.sampler))) > 0


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_metrics_are_figures_that_the_config_reports(path):
    for case_path, setting, row in cases():
        if case_path != path:
            continue
        evaluator = config_of(setting, row).val_evaluator
        parts = evaluator if isinstance(evaluator, list) else [evaluator]
        patterns = []
        for part in parts:
            kind = part.type.split('.')[-1]
            own = part.get('prefix') or find_type(part.type).default_prefix
            patterns.append(HOST_KEYS.get(kind, f'{re.escape(own)}/{OWN_KEY}'))
        for key in setting.metrics:
            assert any(re.fullmatch(p, key) for p in patterns), (
                setting.name,
                row.name,
                key,
            )


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_options_are_those_of_the_tools(path):
    for case_path, setting, row in cases():
        if case_path != path:
            continue
        options = setting.options if row.options is None else row.options
        words = ['CONFIG', '--work-dir', 'DIR', *options]
        if (row.protocol or setting.protocol) == 'retrain_head':
            load_tool('retrain_head').parse_args([words[0], 'CHECKPOINT', *words[1:]])
        elif row.protocol is None:
            load_tool('train').parse_args(words)
        if setting.annotation is not None:
            load_tool('make_longtail').parse_args(
                [setting.annotation.file, '--out', 'FILE', *setting.annotation.options]
            )


def test_published_figures_of_the_host_are_those_of_its_model_zoo():
    import mmdet

    zoo = Path(mmdet.__file__).parent / '.mim'
    checked = 0
    for _, setting, row in cases():
        for item in row.published:
            match = re.search(r'configs/\w+/metafile\.yml', item.source)
            if match is None:
                continue
            models = yaml.safe_load((zoo / match[0]).read_text())['Models']
            config = row.config(setting)
            known = {
                result['Metrics']['box AP']
                for model in models
                for result in model['Results']
                if 'box AP' in result['Metrics']
                # Of the row's own config, where that is one of the host's.
                if not config.startswith('mmdet::')
                or item.metric not in setting.metrics
                or model['Config'] == f'configs/{config[len("mmdet::") :]}'
            }
            assert item.value in known, (row.name, item)
            checked += 1
    assert checked >= 5


def test_annotations_can_be_cut_as_the_tables_say(shared_data, tmp_path):
    from mmdet_imbalance.core.annotation_files import read_annotation

    done = set()
    for path, setting, _ in cases():
        cut = setting.annotation
        source = shared_data / setting.data
        if cut is None or setting.name in done or not source.is_dir():
            continue
        done.add(setting.name)
        before = source / cut.file
        after = tmp_path / f'{setting.name}.json'
        words = [str(before), '--out', str(after), *cut.options]
        assert load_tool('make_longtail').main(words) == 0, path
        old, new = read_annotation(before), read_annotation(after)
        num_old, num_new = (int((~file.ignored).sum()) for file in (old, new))
        if '--label-noise' in cut.options:
            assert num_new == num_old
            was, is_now = (
                [
                    row['category_id']
                    for row in json.loads(file.read_text())['annotations']
                ]
                for file in (before, after)
            )
            assert len(was) == len(is_now)
            assert was != is_now
        else:
            assert 0 < num_new < num_old
        assert new.class_names == old.class_names


# --- mistakes -------------------------------------------------------------------------
GOOD = """
title: A table
paper: Nobody, 2026
baseline: stock
scales:
  small:
    settings: [data]
    metrics: {coco/AP: AP}
rows:
  - name: stock
    configs: {small: a.py}
    published: not available
  - name: ours
    configs: {small: b.py}
    overrides: {train_cfg.max_epochs: 3}
    published: {value: 1.5, figure: AP, source: a paper}
"""


def test_a_good_table_is_read(tmp_path):
    path = tmp_path / 'good.yml'
    path.write_text(GOOD)
    table = read_table(path)
    assert table.seeds == (0, 1, 2)
    assert [row.name for row in table.rows] == ['stock', 'ours']
    assert table.rows[1].published[0].value == 1.5
    (setting,) = table.scales['small']
    assert (setting.name, setting.data, setting.protocol) == ('data', 'data', 'train')
    assert table.rows[0].config(setting) == 'a.py'


@pytest.mark.parametrize(
    ('old', 'new', 'expected'),
    [
        ('title: A table', '', "the file: the key 'title' is missing"),
        ('title: A table', 'title: 3', 'title: must be text, got 3'),
        ('title:', 'tilte:', "tilte: unknown key; did you mean 'title'?"),
        ('baseline: stock', 'baseline: stok', 'baseline: must be one of'),
        ('name: ours', 'name: stock', "rows: two rows are called 'stock'"),
        ('overrides:', 'overides:', 'rows.1.overides: unknown key; did you mean'),
        ('{small: b.py}', '{smal: b.py}', 'rows.1.configs.smal: no scale or setting'),
        ('{small: a.py}', '{}', 'rows.0.configs: must be a mapping'),
        (
            '[data]',
            '[data]\n    protocol: trian',
            'scales.small.protocol: must be one of',
        ),
        (
            '[data]',
            '[data]\n    protocol: retrain_head',
            'scales.small.settings.data: `protocol: retrain_head` needs `stocks`',
        ),
        ('metrics: {coco/AP: AP}', '', 'scales.small.settings.data: `metrics` is'),
        ('max_epochs: 3', 'max_epochs: {a: 1}', 'max_epochs: must be no mapping'),
        (
            'published: not available',
            'published: unknown',
            'rows.0.published: must be `not available` or value, figure and source',
        ),
        (
            ', source: a paper',
            '',
            "rows.1.published: the key 'source' is missing",
        ),
        (
            'source: a paper',
            'source: unverified',
            'rows.1.published: an unverified figure must not be quoted',
        ),
        ('value: 1.5', 'value: high', 'rows.1.published.value: must be a number'),
        ('value: 1.5', 'value: .nan', 'rows.1.published.value: must be finite'),
        ('a paper}', 'a paper, metric: AP}', "`metric` 'AP' is no key"),
        ('rows:', 'seeds: [1, 1]\nrows:', 'seeds: a seed stands twice'),
        ('rows:', 'seeds: 0\nrows:', 'seeds: must be a whole number from 1 on'),
        ('title: A table', 'title: [', 'is no valid YAML'),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(tmp_path, old, new, expected):
    path = tmp_path / 'bad.yml'
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ToolError) as found:
        read_table(path)
    text = str(found.value)
    assert text.startswith(str(path))
    assert expected in text
    assert '\n' not in text


def test_the_example_of_the_documents_is_a_table(tmp_path):
    text = (CONFIG_DIR.parent / 'docs' / 'reproduce.md').read_text()
    path = tmp_path / 'example.yml'
    path.write_text(re.search(r'```yaml\n(.*?)```', text, re.DOTALL)[1])
    plan = plan_table(Request(read_table(path), 'small', [0], tmp_path))
    assert len(plan.selected()) == 4


def test_an_annotation_that_no_config_reads_is_not_cut(tmp_path):
    config = tmp_path / 'a.py'
    config.write_text("data_root = 'd/'\ntrain_cfg = dict(max_epochs=2)\n")
    path = tmp_path / 'table.yml'
    text = GOOD.replace('a.py', str(config)).replace('b.py', str(config))
    cut = '{data: {annotation: {file: train.json, options: --rpa 0.5}}}'
    path.write_text(text.replace('[data]', cut))
    with pytest.raises(ToolError, match='no training annotation to cut'):
        plan_table(Request(read_table(path), 'small', [0], tmp_path))


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('{train_cfg.max_epoch: 3}', "did you mean 'max_epochs'"),
        ('{fake: 3}', "has no key 'fake'"),
        ("{name: '3'}", "name: '3' would be read as 3"),
    ],
)
def test_an_override_that_does_not_resolve_is_named(tmp_path, override, expected):
    config = tmp_path / 'a.py'
    config.write_text("train_cfg = dict(max_epochs=2)\nname = 'word'\n")
    path = tmp_path / 'table.yml'
    text = GOOD.replace('a.py', str(config)).replace('b.py', str(config))
    path.write_text(text.replace('{train_cfg.max_epochs: 3}', override))
    with pytest.raises(ToolError, match='ours') as found:
        plan_table(Request(read_table(path), 'small', [0], tmp_path))
    assert expected in str(found.value)
