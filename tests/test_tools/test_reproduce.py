"""tools/reproduce.py: what is run, what is left alone, what the table says.

The tools that do the work are stand-ins (`tests/helpers/fake_tools.py`), but for the
last tests, which train.
"""

import csv
import fcntl
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmdet_imbalance.cli.runs import load_checkpoint
from mmdet_imbalance.reproduction import row_config
from mmdet_imbalance.reproduction.jobs import LOCK
from tests.helpers.fake_tools import calls, write_config, write_sbatch, write_tools
from tests.helpers.tools import TOOLS, load_tool

TABLE = """
title: A table
paper: Nobody, 2026
baseline: stock
seeds: {seeds}
scales:
  small:
    settings: [data]
    protocol: {protocol}
    stocks: {{frcnn: {stock}}}
    metrics: {{coco/AP: AP, coco/APr: APr, coco/APf: APf}}
rows:
  - name: stock
    configs: {{small: {stock}}}
    published: {{value: 33.0, figure: AP elsewhere, source: a paper, metric: coco/AP}}
  - name: ours
    configs: {{small: {ours}}}
    overrides: {overrides}
    published: not available
"""
#: Quantile 0.975 of Student's t with two degrees of freedom, from printed tables.
T_TWO = 4.302652729911275
KILLER = 'tests.helpers.kill_once'


class Bench:
    """A folder with stand-ins, two configs and a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = write_tools(folder / 'tools')
        self.stock = write_config(folder, 'stock', 0.3)
        self.ours = write_config(folder, 'ours', 0.35)
        self.out = folder / 'out'

    def table(self, overrides='{}', protocol='train', seeds=3, extra='') -> Path:
        path = self.folder / 'table.yml'
        text = TABLE.format(
            stock=self.stock,
            ours=self.ours,
            overrides=overrides,
            protocol=protocol,
            seeds=seeds,
        )
        path.write_text(text + extra)
        return path

    def run(self, *argv: object, table: Path | None = None) -> int:
        # A process reads a config once.
        row_config._read.cache_clear()
        words = [table or self.table(), '--out', self.out, '--drawings', 0, *argv]
        return load_tool('reproduce').main([str(word) for word in words])

    def num_calls(self) -> int:
        return len(calls(self.tools)) if (self.tools / 'calls.txt').exists() else 0

    def rows(self, name: str = 'table.small') -> list[dict[str, str]]:
        with open(self.out / f'{name}.csv', newline='') as file:
            return list(csv.DictReader(file))

    def row(self, name: str, metric: str = 'coco/AP') -> dict[str, str]:
        (row,) = [r for r in self.rows() if (r['row'], r['metric']) == (name, metric)]
        return row


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    monkeypatch.setattr('mmdet_imbalance.reproduction.running.POLL_SECONDS', 0.02)
    found = Bench(tmp_path)
    monkeypatch.setattr(load_tool('reproduce'), 'TOOLS', found.tools)
    return found


def test_table_holds_what_the_runs_said(bench, capsys):
    assert bench.run() == 0
    stock = [0.3, 0.31, 0.34]
    ours = [0.35, 0.36, 0.39]
    assert bench.num_calls() == 6
    for name, values in (('stock', stock), ('ours', ours)):
        row = bench.row(name)
        assert float(row['mean']) == pytest.approx(statistics.mean(values))
        assert float(row['sd']) == pytest.approx(statistics.stdev(values))
        assert row['num_seeds'] == '3'
    assert float(bench.row('stock')['published']) == pytest.approx(0.33)
    assert bench.row('ours')['published_figure'] == 'not available'
    # The figure of the last epoch counts, not that of the first, and -1 is no figure.
    assert bench.row('stock', 'coco/APf')['mean'] == ''
    assert bench.row('ours', 'coco/APf')['verdict'] == 'undefined'
    text = (bench.out / 'table.small.md').read_text()
    assert text in capsys.readouterr().out
    assert '| ours | not available | 3 | 36.7 ± 2.1 | 17.5 ± 0.0 |' in text
    assert 'APf' not in text
    assert '33 (AP elsewhere)' in text
    assert 'a paper' in text
    assert (bench.out / 'table.small.png').stat().st_size > 1000


def test_difference_is_paired_by_seed(bench):
    # Seeds add 0, 0.01 and 0.04 to every row: paired, they cancel.
    table = bench.table('{fake_ap: 0.33}')
    assert bench.run(table=table) == 0
    row = bench.row('ours')
    assert float(row['difference']) == pytest.approx(0.03)
    assert float(row['seeds_low']) == pytest.approx(0.03)
    assert row['verdict'] == 'better'
    # Figures of one seed are changed by hand: now the differences spread.
    (path,) = bench.out.glob('runs/data/ours-*/seed2/result.json')
    result = json.loads(path.read_text())
    result['metrics']['coco/AP'] = 0.30
    path.write_text(json.dumps(result))
    assert bench.run(table=table) == 0
    moved = [0.03, 0.03, 0.30 - 0.34]
    mean, spread = statistics.mean(moved), statistics.stdev(moved)
    half = T_TWO * spread / math.sqrt(3)
    row = bench.row('ours')
    assert float(row['seeds_low']) == pytest.approx(mean - half)
    assert float(row['seeds_high']) == pytest.approx(mean + half)
    assert row['verdict'] == 'within noise'
    assert 'within noise' in (bench.out / 'table.small.md').read_text()


def test_one_seed_is_said_to_be_one(bench):
    assert bench.run('--seeds', 1) == 0
    assert bench.row('ours')['verdict'] == 'one seed: noise unknown'


def test_finished_rows_are_skipped_and_changed_ones_run_again(bench):
    assert bench.run() == 0
    assert bench.run() == 0
    assert bench.num_calls() == 6
    changed = bench.table('{fake_ap: 0.5}')
    assert bench.run(table=changed) == 0
    assert bench.num_calls() == 9
    assert float(bench.row('ours')['mean']) == pytest.approx(0.5 + 0.05 / 3)
    # A config whose meaning changes is another row, one with a new comment is not.
    bench.ours.write_text('# why\n' + bench.ours.read_text())
    assert bench.run(table=changed) == 0
    assert bench.num_calls() == 9
    bench.stock.write_text(bench.stock.read_text().replace('0.3', '0.2'))
    assert bench.run(table=changed) == 0
    assert bench.num_calls() == 12
    # The first state is still there.
    bench.stock.write_text(bench.stock.read_text().replace('0.2', '0.3'))
    assert bench.run() == 0
    assert bench.num_calls() == 12


def test_failed_row_is_reported_and_the_others_go_on(bench, capsys):
    table = bench.table('{fake_mode: fail}')
    assert bench.run(table=table) == 1
    said = capsys.readouterr().out
    assert 'error: this row cannot be trained' in said
    text = (bench.out / 'table.small.md').read_text()
    (log, *_) = bench.out.glob('runs/data/ours-*/seed0/log.txt')
    assert f'error: this row cannot be trained (log: `{log}`)' in text
    assert 'a first line' in log.read_text()
    assert bench.row('stock')['num_seeds'] == '3'
    assert bench.row('ours')['num_failed'] == '3'
    assert bench.num_calls() == 6
    # It is tried again, and only it.
    assert bench.run(table=table) == 1
    assert bench.num_calls() == 9


def test_killed_training_is_resumed(bench):
    table = bench.table('{fake_mode: kill}')
    assert bench.run('--seeds', 1, table=table) == 1
    assert 'killed by signal 9 (SIGKILL)' in (bench.out / 'table.small.md').read_text()
    (work,) = bench.out.glob('runs/data/ours-*/seed0/work')
    assert (work / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    assert bench.run('--seeds', 1, table=table) == 0
    assert (work / 'last_checkpoint').read_text().endswith('epoch_2.pth')
    assert float(bench.row('ours')['mean']) == pytest.approx(0.35)
    assert bench.num_calls() == 3


def test_training_without_a_last_evaluation_is_tested(bench):
    assert bench.run('--seeds', 1, table=bench.table('{fake_mode: unevaluated}')) == 0
    last = calls(bench.tools)[-1]
    assert last[0].endswith('test.py')
    assert last[2].endswith('epoch_2.pth')
    assert float(bench.row('ours')['mean']) == pytest.approx(0.35)


def test_interruption_leaves_everything_resumable(bench):
    """SIGINT to the real process, as Ctrl-C sends it."""
    table = bench.table('{fake_mode: wait}')
    code = (
        'import signal, sys; from tests.helpers.tools import load_tool; '
        'tool = load_tool("reproduce"); from pathlib import Path; '
        # A shell lets what it starts in the background ignore the signal.
        'signal.signal(signal.SIGINT, signal.default_int_handler); '
        f'tool.TOOLS = Path({str(bench.tools)!r}); sys.exit(tool.main())'
    )
    words = [table, '--out', bench.out, '--drawings', 0, '--seeds', 1]
    process = subprocess.Popen(
        [sys.executable, '-c', code, *map(str, words)],
        cwd=TOOLS.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    waited = 0.0
    while not list(bench.out.glob('runs/data/ours-*/seed0/work/epoch_1.pth')):
        assert process.poll() is None, process.communicate()
        assert waited < 120
        time.sleep(0.1)
        waited += 0.1
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=500)
    assert process.returncode == 130, errors
    assert 'interrupted' in errors
    # The table has what there is.
    assert '| ours | not available | 0, 1 not run |' in said
    # No process of the training lives on: the last one takes the lock with it.
    (lock,) = bench.out.glob(f'runs/data/ours-*/seed0/{LOCK}')
    with lock.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert bench.run('--seeds', 1, table=table) == 0
    assert float(bench.row('ours')['mean']) == pytest.approx(0.35)


def test_two_processes_share_the_work(bench):
    """A job that another process holds is left to it, and its result is taken."""
    from mmdet_imbalance.reproduction import running
    from mmdet_imbalance.reproduction.commands import Launch
    from mmdet_imbalance.reproduction.plan import Request, plan_table
    from mmdet_imbalance.reproduction.table_file import read_table

    table = read_table(bench.table(seeds=1))
    jobs = plan_table(Request(table, 'small', [0], bench.out)).selected()
    events = []

    def report(event, job):
        events.append((event, job and job.label))
        if event == 'waiting':
            # The other process finishes.
            lock.__exit__(None, None, None)

    lock = running.locked(jobs[0])
    assert lock.__enter__() is not None
    with running.locked(jobs[0]) as second:
        assert second is None
    assert running.Runner(Launch(bench.tools), report).run(jobs) == []
    assert events.index(('end', 'data: ours')) < events.index(('waiting', None))
    assert events[-1] == ('end', 'data: stock')


def test_dry_run_prints_commands_and_runs_nothing(bench, capsys):
    assert bench.run('--dry-run') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '# job 0: data: stock, seed 0: to run'
    assert len(lines) == 12
    assert '--seed 0' in lines[1]
    assert str(bench.stock) in lines[1]
    assert not bench.out.exists()
    assert bench.run('--rows', 'stock') == 0
    assert bench.run('--dry-run') == 0
    assert '# job 0: data: stock, seed 0: finished' in capsys.readouterr().out
    assert bench.run('--report-only') == 0
    assert bench.num_calls() == 3
    assert bench.row('ours')['num_seeds'] == '0'


def test_array_lines_for_slurm_run_each_job_once(bench, tmp_path, capsys):
    table = bench.table(protocol='retrain_head', seeds=2)
    argv = ['--launcher', 'slurm', '--gpus', 2, '--partition', 'night']
    assert bench.run('--seeds', 2, '--dry-run', *argv, table=table) == 0
    lines = capsys.readouterr().out
    sbatch = write_sbatch(tmp_path / 'bin')
    path = f'{sbatch.parent}:{os.environ["PATH"]}'
    subprocess.run(['bash', '-c', lines], check=True, env={**os.environ, 'PATH': path})
    words = (tmp_path / 'bin' / 'sbatch.txt').read_text().splitlines()
    assert [w for w in words if w.startswith('--array')] == [
        '--array=0-1',
        '--array=2-5',
    ]
    assert '--dependency=afterany:7' in words
    assert '--partition=night' in words
    (command, _) = [w for w in words if 'reproduce.py' in w]
    assert '--launcher pytorch --gpus 2 --job $SLURM_ARRAY_TASK_ID' in command
    assert '--dry-run' not in command
    # What an array task runs: its job alone, and no table.
    assert bench.run('--job', 0, table=table) == 0
    assert bench.num_calls() == 1
    assert not (bench.out / 'table.small.md').exists()


def test_heads_are_retrained_from_one_checkpoint_a_seed(bench):
    table = bench.table(protocol='retrain_head')
    assert bench.run('--seeds', 2, table=table) == 0
    found = calls(bench.tools)
    trained = [call for call in found if call[0].endswith('train.py')]
    heads = [call for call in found if call[0].endswith('retrain_head.py')]
    assert (len(trained), len(heads)) == (2, 4)
    for call in heads:
        seed = call[call.index('--seed') + 1]
        (own,) = [t for t in trained if t[t.index('--seed') + 1] == seed]
        work_dir = Path(own[own.index('--work-dir') + 1])
        assert Path(call[2]) == work_dir / 'epoch_2.pth'
    # Trained in full, the baseline is the stock detector: nothing is run twice.
    assert bench.run('--seeds', 2, '--protocol', 'train', table=table) == 0
    assert bench.num_calls() == 8
    assert (bench.out / 'table.small-train.md').is_file()


def test_given_checkpoints_are_used(bench, capsys):
    table = bench.table(protocol='retrain_head')
    for seed in (0, 1):
        folder = bench.folder / 'stock' / f'1{seed}_data_frcnn_s{seed}'
        folder.mkdir(parents=True)
        (folder / 'epoch_2.pth').write_text(f'weights {seed}')
    pattern = f'{bench.folder}/stock/*_{{data}}_{{stock}}_s{{seed}}/epoch_2.pth'
    # The third does not exist: its jobs fail, and say which file they look for.
    assert bench.run('--checkpoint', pattern, table=table) == 1
    assert 'data_frcnn_s2/epoch_2.pth' in (bench.out / 'table.small.md').read_text()
    assert bench.num_calls() == 4
    assert bench.row('ours')['num_seeds'] == '2'
    assert all('_frcnn_s' in call[2] for call in calls(bench.tools))
    # Other weights are another row.
    (folder / 'epoch_2.pth').write_text('other weights')
    bench.run('--checkpoint', pattern, table=table)
    assert bench.num_calls() == 6
    # One checkpoint for all seeds is allowed, and said.
    one = f'{bench.folder}/stock/10_data_frcnn_s0/epoch_2.pth'
    assert bench.run('--checkpoint', one, table=table) == 0
    text = (bench.out / 'table.small.md').read_text()
    assert 'only 1 of 3 stock checkpoints differ' in text
    capsys.readouterr()
    for bad, reason in (
        ('{sede}', '{sede}'),
        ('{seed', "expected '}'"),
    ):
        assert bench.run('--checkpoint', bad, table=table) == 2
        assert reason in capsys.readouterr().err


def test_row_takes_a_file_of_another_row(bench):
    extra = f"""
  - name: third
    configs: {{small: {bench.ours}}}
    uses: {{row: ours, file: prior.json, key: fake_mode}}
    published: not available
"""
    table = bench.table(protocol='retrain_head', extra=extra)
    assert bench.run('--seeds', 1, '--rows', 'third', table=table) == 0
    ours, third = calls(bench.tools)[-2:]
    work_dir = ours[ours.index('--work-dir') + 1]
    assert third[-1] == f'fake_mode={work_dir}/prior.json'


def test_row_that_needs_a_failed_one_fails_without_a_try(bench):
    extra = f"""
  - name: third
    configs: {{small: {bench.ours}}}
    uses: {{row: ours, file: prior.json, key: fake_mode}}
    published: not available
"""
    table = bench.table('{fake_mode: fail}', 'retrain_head', extra=extra)
    assert bench.run('--seeds', 1, table=table) == 1
    assert bench.num_calls() == 3
    assert (
        'third, seed 0: needs data: ours' in (bench.out / 'table.small.md').read_text()
    )


@pytest.mark.parametrize(
    ('argv', 'reason'),
    [
        (['--scale', 'smal'], "no scale 'smal', only small"),
        (['--rows', 'our'], "--rows 'our' is not in the table"),
        (['--settings', 'dat'], "--settings 'dat' is not in the table"),
        (['--seeds', '0'], '--seeds must be at least 1'),
        (['--data-root', 'nowhere'], 'data folder not found: nowhere'),
        (['--gpus', '2'], '--gpus needs --launcher'),
        (['--launcher', 'slurm'], '--launcher slurm needs --partition'),
        (['--job', '6'], '--job must be in 0 .. 5'),
    ],
)
def test_wrong_options_are_one_line(bench, capsys, argv, reason):
    assert bench.run(*argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_absent_data_are_one_line(bench, capsys):
    assert bench.run('--data-root', bench.folder) == 2
    assert '--settings NAME leaves others out' in capsys.readouterr().err


def test_unknown_table_names_those_there_are(bench, capsys):
    assert load_tool('reproduce').main(['no_such', '--out', str(bench.out)]) == 2
    line = capsys.readouterr().err
    assert 'soft_balance' in line
    assert 'ghm' in line


# --- the real tools -------------------------------------------------------------------
@pytest.fixture
def real_tools(bench, monkeypatch):
    monkeypatch.setattr(load_tool('reproduce'), 'TOOLS', TOOLS)
    # Processes find the helpers.
    monkeypatch.setenv('PYTHONPATH', str(TOOLS.parent))
    return bench


def real(bench, table: Path, *argv: object) -> int:
    words = ['--seeds', 1, '--device', 'cpu', '--drawings', 50, *argv]
    row_config._read.cache_clear()
    argv = [table, '--out', bench.out, *words]
    return load_tool('reproduce').main([str(word) for word in argv])


@pytest.mark.slow
def test_trains_resumes_and_compares(real_tools, bench, tmp_path):
    """One row is killed in its second epoch, by the config itself."""
    from tests.helpers.tiny_run import write_config as tiny_config
    from tests.helpers.tiny_run import write_data

    data = write_data(tmp_path / 'root' / 'data')
    extra = (
        "val_evaluator = dict(_delete_=True, ann_file=data_root + 'train.json',\n"
        "    type='mmdet_imbalance.ImbalanceCocoMetric')\n"
        'test_evaluator = val_evaluator\ntrain_cfg = dict(max_epochs=2)\n'
    )
    bench.stock = tiny_config(tmp_path, data, extra)
    bench.ours = tmp_path / 'killed.py'
    marker = tmp_path / 'killed'
    bench.ours.write_text(
        "_base_ = './tiny.py'\n"
        f"custom_imports = dict(imports=['{KILLER}'])\n"
        f"custom_hooks = [dict(type='KillOnce', marker='{marker}')]\n"
    )
    table = bench.table(seeds=1)
    assert real(bench, table, '--data-root', tmp_path / 'root') == 1
    text = (bench.out / 'table.small.md').read_text()
    assert '| ours | not available | 0, 1 failed |' in text
    assert real(bench, table, '--data-root', tmp_path / 'root') == 0
    (killed,) = bench.out.glob('runs/data/killed-*/seed0')
    # Two starts, and the second went on from the first epoch.
    assert len(list((killed / 'work').glob('*/vis_data'))) == 2
    assert 'resumed epoch: 1' in (killed / 'log.txt').read_text()
    for name in ('stock', 'ours'):
        row = bench.row(name)
        assert row['num_seeds'] == '1'
        assert 0 <= float(row['mean']) <= 1
    # The same training but for the kill: the same weights, and so the same figures.
    whole, resumed = (
        load_checkpoint(str(path))['state_dict']
        for name in ('tiny', 'killed')
        for path in bench.out.glob(f'runs/data/{name}-*/seed0/work/epoch_2.pth')
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert bench.row('stock')['values'] == bench.row('ours')['values']
    ours = bench.row('ours')
    assert float(ours['difference']) == 0
    assert float(ours['images_low']) <= 0 <= float(ours['images_high'])


@pytest.mark.slow
def test_retrains_heads(real_tools, bench, tmp_path):
    from tests.helpers.shrunken_configs import shrink

    folders = [tmp_path / name for name in ('one', 'two')]
    configs = []
    for folder, name in zip(folders, ('soft-balance', 'repeat-factor'), strict=True):
        folder.mkdir()
        stem = f'soft_balance/faster-rcnn_efficientnet-lite0_fpn_{name}_10e_hdbpmn.py'
        configs.append(shrink(stem, folder))
    bench.stock, bench.ours = configs
    table = bench.table(protocol='retrain_head', seeds=1)
    assert real(bench, table) == 0
    row = bench.row('ours')
    assert row['num_seeds'] == '1'
    measured = {
        json.loads(path.read_text())['metrics']['coco/AP']
        for path in bench.out.glob('runs/data/small-*/seed0/rows.jsonl')
    }
    assert measured == {float(bench.row(name)['mean']) for name in ('stock', 'ours')}
