"""The user guide says what the code does; the built site: tests/test_docs_site.py."""

import doctest
import importlib
import inspect
import re

import pytest
from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    init_default_scope,
)

from mmdet_imbalance import functional
from tests.helpers.config_files import find_type
from tests.helpers.doc_pages import (
    DOCS,
    Row,
    all_parameters,
    anchors,
    as_lists,
    broken_links,
    cell_value,
    configs,
    headings,
    named_class,
    own_parameters,
    pages,
    parameter_tables,
    registered,
    sessions,
    toctree_entries,
    tool_parameters,
)
from tests.helpers.shell_blocks import ROOT, blocks
from tests.helpers.shrunken_configs import shrink
from tests.helpers.tools import TOOLS, load_tool

METHOD_HEADINGS = [
    'Paper',
    'Equation',
    'Parameters',
    'What it expects from the data',
    'Deviations',
    'Minimal config',
    'Pitfalls',
]
PAGES = pages()
METHODS = sorted(p for p in (DOCS / 'methods').glob('*.md') if p.stem != 'index')
OVERVIEW = DOCS / 'methods' / 'index.md'
LINKED = sorted({*PAGES, ROOT / 'README.md', *ROOT.glob('benchmarks/**/*.md')})
TABLES = [
    (path, name) for path in [*METHODS, OVERVIEW] for name in parameter_tables(path)
]
CONFIGS = [(p, i) for p in PAGES if DOCS in p.parents for i in range(len(configs(p)))]
SESSIONS = [(p, i) for p in PAGES for i in range(len(sessions(p)))]


def relative(path) -> str:
    return str(path.relative_to(ROOT))


def named(pairs) -> list[str]:
    return [f'{path.stem}-{part}' for path, part in pairs]


@pytest.fixture(autouse=True)
def host_scope():
    init_default_scope('mmdet')


# --- pages and links -----------------------------------------------------------------
def test_every_page_stands_once_in_the_contents():
    listed = toctree_entries(DOCS / 'index.md')
    expected = [relative(p) for p in PAGES if p != DOCS / 'index.md']
    assert sorted(listed) == sorted(expected)


@pytest.mark.parametrize('path', METHODS, ids=lambda p: p.stem)
def test_method_page_has_the_fixed_headings(path):
    found = headings(path.read_text())
    assert [text for level, text in found if level == 2] == METHOD_HEADINGS
    assert [level for level, _ in found].count(1) == 1


@pytest.mark.parametrize('path', METHODS, ids=lambda p: p.stem)
def test_method_page_has_a_paper_an_equation_and_a_config(path):
    parts = re.split(r'^## ', path.read_text(), flags=re.MULTILINE)[1:]
    text = dict(part.split('\n', 1) for part in parts)
    assert re.search(r'https://arxiv\.org/abs/\d{4}\.\d{5}', text['Paper'])
    assert text['Equation'].count('$$') >= 2
    assert configs(path)
    assert parameter_tables(path)
    assert f'({path.name})' in OVERVIEW.read_text()


@pytest.mark.parametrize('path', LINKED, ids=relative)
def test_links_and_anchors_lead_somewhere(path):
    assert broken_links(path) == []


def test_a_broken_link_is_noticed(tmp_path):
    page = tmp_path / 'page.md'
    (tmp_path / 'other.md').write_text('# Its `name`, here\n\n```\n# no heading\n```\n')
    page.write_text(
        '[a](other.md#its-name-here) [b](other.md#no-heading) [c](gone.md)\n'
        '[d](#nowhere)'
        '\n`[no](link.md)`\n\n```text\n[no](link.md)\n```\n'
    )
    assert [line.split(':')[0] for line in broken_links(page)] == [
        'other.md#no-heading',
        'gone.md',
        '#nowhere',
    ]
    assert anchors('## Twice\n\n## Twice\n') == {'twice', 'twice-1'}


# --- parameters ----------------------------------------------------------------------
def problems(name: str, rows: list[Row]) -> list[str]:
    """What a parameter table says otherwise than the code."""
    if name.startswith('tools/'):
        known = tool_parameters(name.removeprefix('tools/').removesuffix('.py'))
        wanted: set[str] = set()
    else:
        known = all_parameters(named_class(name))
        wanted = set(own_parameters(named_class(name)))
    stated = {row.parameter.strip('`'): row for row in rows}
    found = [f'`{key}` is not in the table' for key in wanted - set(stated)]
    for key, row in stated.items():
        if key not in known:
            found.append(f'there is no `{key}`')
        elif cell_value(row.default) != as_lists(known[key]):
            found.append(f'the default of `{key}` is {known[key]!r}, not {row.default}')
        if not row.published:
            found.append(f'`{key}`: write a dash where nothing was published')
    return found


@pytest.mark.parametrize(('path', 'name'), TABLES, ids=named(TABLES))
def test_parameters_are_those_of_the_code(path, name):
    rows = parameter_tables(path)[name]
    assert rows, 'a heading without a table'
    assert problems(name, rows) == []


@pytest.mark.parametrize(
    ('row', 'problem'),
    [
        (Row('`mu`', '`0.02`', '–', ''), ''),
        (Row('`mu`', '`0.03`', '–', ''), 'is 0.02, not `0.03`'),
        (Row('`nu`', '`0.02`', '–', ''), 'there is no `nu`'),
        (Row('`mu`', 'required', '–', ''), 'is 0.02, not required'),
        (Row('`mu`', '`0.02`', '', ''), 'a dash'),
    ],
)
def test_a_wrong_table_is_noticed(row, problem):
    found = [p for p in problems('GHMRegressionLoss', [row]) if 'in the table' not in p]
    assert problem in ' '.join(found)
    assert bool(problem) == bool(found)
    assert len(problems('GHMRegressionLoss', [row])) >= 6


def test_every_loss_and_sampler_of_a_method_has_a_table():
    documented = {name for _, name in TABLES}
    # What stands on a page in words: baselines of a paper, and losses of other authors.
    in_words = {
        'DistributedSoftmaxLoss',
        'MultiLabelSigmoidLoss',
        'MultiLabelFocalLoss',
        'SeesawLoss',
    }
    wanted = {n for n in registered() if n.endswith(('Loss', 'Sampler', 'Weight'))}
    assert wanted - documented == in_words


# --- the reference -------------------------------------------------------------------
def objects_of(pattern: str, directive: str) -> list[str]:
    text = '\n'.join(p.read_text() for p in sorted((DOCS / 'api').glob(pattern)))
    return re.findall(rf'^\.\. {directive}:: (\S+)$', text, re.MULTILINE)


def test_the_page_of_pure_functions_has_them_all():
    listed = objects_of('functional.md', 'autofunction')
    expected = [f'{functional.__name__}.{name}' for name in functional.__all__]
    assert sorted(listed) == sorted(expected)


def test_the_reference_has_every_class_that_a_config_can_name():
    listed = []
    for name in objects_of('*.md', 'autoclass'):
        module, _, attribute = name.rpartition('.')
        listed.append(getattr(importlib.import_module(module), attribute))
    assert len(listed) == len(set(listed))
    missing = [n for n, cls in registered().items() if cls not in listed]
    assert not missing, f'add them to a page of docs/api/: {missing}'
    assert all(inspect.getdoc(cls) for cls in listed)


def test_the_page_of_tools_has_them_all():
    listed = set(
        re.findall(r'^\| `tools/([\w.]+)` \|', (DOCS / 'tools.md').read_text(), re.M)
    )
    assert listed == {p.name for p in TOOLS.iterdir() if p.suffix in ('.py', '.sh')}


# --- snippets ------------------------------------------------------------------------
@pytest.mark.parametrize('path', PAGES, ids=relative)
def test_snippets_name_registered_types(path):
    text = '\n'.join(blocks(path.read_text(), ('python', 'py')))
    names = set(re.findall(r"type='(mmdet_imbalance\.\w+)'", text))
    # CONTRIBUTING.md shows how to add a class of this name.
    assert [n for n in names - {'mmdet_imbalance.FocusLoss'} if not find_type(n)] == []


def small_config(path, number: int, folder):
    """A config of a page, shrunken; written beside the project's configs folder."""
    (folder / 'configs').symlink_to(ROOT / 'configs')
    (folder / 'mine').mkdir()
    config = folder / 'mine' / 'config.py'
    config.write_text(configs(path)[number])
    (folder / 'small').mkdir()
    return shrink(str(config), folder / 'small')


@pytest.mark.parametrize(('path', 'number'), CONFIGS, ids=named(CONFIGS))
def test_config_of_a_page_builds(path, number, tmp_path):
    cfg = Config.fromfile(str(small_config(path, number, tmp_path)))
    model = MODELS.build(cfg.model)
    assert any(p.requires_grad for p in model.parameters())
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sampler = DATA_SAMPLERS.build(
        cfg.train_dataloader.sampler, default_args=dict(dataset=dataset, seed=0)
    )
    assert 0 <= next(iter(sampler)) < len(dataset)
    for hook in cfg.get('custom_hooks', []):
        HOOKS.build(hook)
    METRICS.build(cfg.val_evaluator)


@pytest.mark.slow
@pytest.mark.parametrize(('path', 'number'), CONFIGS, ids=named(CONFIGS))
def test_config_of_a_page_trains(path, number, tmp_path, monkeypatch):
    config = small_config(path, number, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMDET_IMBALANCE_TRACEBACK', '1')
    # Laying out the logged config takes longer than the training.
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)
    )
    run = ['--work-dir', str(tmp_path / 'run'), '--seed', '0']
    assert load_tool('train').main([str(config), *run]) == 0
    assert list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.parametrize(('path', 'number'), SESSIONS, ids=named(SESSIONS))
def test_session_of_a_page_gives_what_it_shows(path, number):
    test = doctest.DocTestParser().get_doctest(
        sessions(path)[number], {}, relative(path), str(path), 0
    )
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    assert runner.run(test, out=report.append).failed == 0, ''.join(report)
    assert test.examples
