"""Running trainings beside each other, with a stand-in for the training script."""

import os
import time

import pytest

from mmdet_imbalance.cli import side_by_side
from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.cli.side_by_side import TrainingRun, run_all

# Writes what the host writes, and notes when it began and ended.
STAND_IN = """
import json, os, sys, time
from pathlib import Path
work_dir = Path(sys.argv[sys.argv.index('--work-dir') + 1])
seed = int(sys.argv[sys.argv.index('--seed') + 1])
print('hello')
if 'broken.py' in sys.argv[1]:
    sys.exit('error: this is broken')
folder = work_dir / 'stamp' / 'vis_data'
folder.mkdir(parents=True)
began = time.time()
with open(folder / 'scalars.json', 'w') as file:
    for step in (4, 8):
        file.write(json.dumps(dict(loss=1.0, step=step)) + '\\n')
        file.flush()
        time.sleep({pause})
    file.write(json.dumps({{'coco/AP': 0.25 + seed, 'step': 8}}) + '\\n')
    file.write('{{"half a li')
(work_dir / 'times').write_text(f'{{began}} {{time.time()}}')
(work_dir / 'arguments').write_text(' '.join(sys.argv[1:]))
(work_dir / 'threads').write_text(os.environ['OMP_NUM_THREADS'])
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, 'POLL_SECONDS', 0.02)
    path = tmp_path / 'train.py'
    path.write_text(STAND_IN.format(pause=0.15))
    return path


def runs_of(tmp_path, *seeds, config='config.py'):
    return [
        TrainingRun('stock', config, seed, tmp_path / f'run{seed}', 16, ['x.y=1'])
        for seed in seeds
    ]


def ignore(line):
    pass


def test_figures_and_arguments_arrive(tmp_path, script):
    runs = runs_of(tmp_path, 0, 3)
    run_all(runs, script, 'cpu', 2, ignore)
    assert [run.figures()['coco/AP'] for run in runs] == [0.25, 3.25]
    assert all(0.2 < run.seconds < 30 for run in runs)
    said = (tmp_path / 'run3' / 'arguments').read_text()
    for part in (
        '--seed 3',
        '--device cpu',
        'train_dataloader.dataset.seed=3',
        'x.y=1',
    ):
        assert part in said
    assert 'hello' in runs[0].log_file.read_text()
    threads = max(1, (os.cpu_count() or 1) // 2)
    assert (tmp_path / 'run0' / 'threads').read_text() == str(threads)


@pytest.mark.parametrize('num_parallel', [1, 2])
def test_never_more_at_a_time_than_allowed(tmp_path, script, num_parallel):
    runs = runs_of(tmp_path, 0, 1, 2)
    run_all(runs, script, 'cpu', num_parallel, ignore)
    times = [(run.work_dir / 'times').read_text().split() for run in runs]
    edges = sorted(
        [(float(a), 1) for a, _ in times] + [(float(b), -1) for _, b in times]
    )
    running = highest = 0
    for _, step in edges:
        running += step
        highest = max(highest, running)
    assert highest <= num_parallel


def test_progress_rises_to_all(tmp_path, script):
    lines = []
    run_all(runs_of(tmp_path, 0, 1), script, 'cpu', 1, lines.append)
    percent = [int(line.split(']')[1].split('%')[0]) for line in lines]
    assert percent == sorted(percent)
    assert percent[-1] == 100
    # Half of the steps of one of two runs: 8 of 16.
    assert 25 in percent
    assert any('s left' in line for line in lines)


def test_failure_names_the_run_and_its_last_line(tmp_path, script):
    runs = runs_of(tmp_path, 0, config='broken.py')
    with pytest.raises(ToolError, match=r"'stock' \(seed 0\).*this is broken"):
        run_all(runs, script, 'cpu', 1, ignore)


def test_failure_ends_the_others(tmp_path, script):
    script.write_text(STAND_IN.format(pause=30))
    runs = runs_of(tmp_path, 0) + runs_of(tmp_path, 1, config='broken.py')
    start = time.monotonic()
    with pytest.raises(ToolError):
        run_all(runs, script, 'cpu', 2, ignore)
    assert time.monotonic() - start < 20
    assert runs[0]._process.poll() is not None


def test_interruption_ends_all(tmp_path, script):
    script.write_text(STAND_IN.format(pause=30))
    runs = runs_of(tmp_path, 0, 1)

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(runs, script, 'cpu', 2, interrupt)
    assert all(run._process.poll() is not None for run in runs)


def test_missing_evaluation_is_an_error(tmp_path):
    with pytest.raises(ToolError, match='no evaluation'):
        runs_of(tmp_path, 0)[0].figures()
