"""Single parts of a run that survives: batches, files, images, the config."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.config import ConfigDict
from mmengine.dataset import DefaultSampler
from mmengine.registry import init_default_scope
from torch.utils.data import BatchSampler, DataLoader

from mmdet_imbalance.cli.errors import ToolError, one_line
from mmdet_imbalance.cli.resilience import make_resumable, skip_unreadable_images
from mmdet_imbalance.cli.runs import load_checkpoint
from mmdet_imbalance.datasets.samplers import ResumableBatches
from mmdet_imbalance.datasets.transforms.load_readable_image import LoadReadableImage
from mmdet_imbalance.engine.atomic_backend import AtomicLocalBackend
from mmdet_imbalance.engine.hooks import PreemptionHook, SafeCheckpointHook
from mmdet_imbalance.engine.hooks.exact_resume_hook import seed_generators
from tests.helpers.noisy_run import write_config as write_noisy
from tests.helpers.tiny_run import write_config, write_data
from tests.helpers.tools import TOOLS, load_tool


# --- batches --------------------------------------------------------------------------
class Pictures:
    """Records of pictures, every third upright."""

    def __len__(self) -> int:
        return 23

    def get_data_info(self, index: int) -> dict:
        return dict(width=10, height=20 if index % 3 == 0 else 5)

    def __getitem__(self, index: int) -> int:
        return index


INNER = [None, dict(type='AspectRatioBatchSampler')]


@pytest.mark.parametrize('inner', INNER, ids=['plain', 'aspect'])
@pytest.mark.parametrize('skipped', [0, 1, 4, 6])
def test_skipped_batches_leave_the_very_rest(inner, skipped):
    init_default_scope('mmdet')
    sampler = DefaultSampler(Pictures(), shuffle=True, seed=1)
    cls = BatchSampler if inner is None else AspectRatioBatchSampler
    resumable = ResumableBatches(sampler, 4, inner=inner)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        whole = list(cls(sampler, 4, drop_last=False))
        assert len(resumable) == len(whole) == 6
        resumable.skip_batches(skipped)
        assert list(resumable) == whole[skipped:]
        # Once only.
        assert list(resumable) == whole


def test_a_loader_finds_the_sampler_whose_epoch_is_set():
    sampler = DefaultSampler(Pictures(), shuffle=True, seed=1)
    loader = DataLoader(Pictures(), batch_sampler=ResumableBatches(sampler, 4))
    loader.batch_sampler.sampler.set_epoch(3)
    shown = [int(i) for batch in loader for i in batch]
    assert shown == list(sampler)
    loader.batch_sampler.skip_batches(2)
    assert [int(i) for batch in loader for i in batch] == shown[8:]


@pytest.mark.parametrize('num', [-1, 7])
def test_skipping_what_is_not_there_is_refused(num):
    sampler = DefaultSampler(Pictures(), seed=1)
    with pytest.raises(ValueError, match='num_batches'):
        ResumableBatches(sampler, 4).skip_batches(num)


def test_seeds_of_ranks_and_iterations_differ_and_repeat():
    def draw(*where: int) -> float:
        seed_generators(*where)
        return np.random.random()

    places = [(s, r, k) for s in (0, 1) for r in (0, 1) for k in range(50)]
    drawn = [draw(*place) for place in places]
    assert len(set(drawn)) == len(drawn)
    assert [draw(*place) for place in places] == drawn
    assert 0.4 < np.mean(drawn) < 0.6


# --- files ----------------------------------------------------------------------------
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    backend = AtomicLocalBackend()
    backend.put(b'old', path)

    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match='epoch_1') as raised:
        backend.put(b'new and longer', path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]
    line = one_line(raised.value)
    assert line.startswith('the disk is full')
    assert str(path) in line


def test_other_storage_keeps_the_host_s_hook():
    with pytest.raises(ValueError, match='backend_args'):
        SafeCheckpointHook(backend_args=dict(backend='petrel'))


def test_misspelt_signals_are_refused():
    with pytest.raises(ValueError, match='signals'):
        PreemptionHook(signals=['SIGTREM'])
    with pytest.raises(ValueError, match='signals'):
        PreemptionHook(signals='SIGTERM')
    with pytest.raises(ValueError, match='interval'):
        PreemptionHook(interval=0)


# --- what the tool makes of a config --------------------------------------------------
def config(**more) -> ConfigDict:
    loader = dict(batch_size=2, drop_last=True, dataset=dict(type='CocoDataset'))
    return ConfigDict(
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=3)),
        **more,
    )


def test_what_is_added_is_added_once():
    cfg = config(custom_hooks=[dict(type='mmdet_imbalance.ClassStatsHook')])
    make_resumable(cfg)
    assert cfg.default_hooks.checkpoint == dict(
        type='mmdet_imbalance.SafeCheckpointHook', interval=3
    )
    assert cfg.train_dataloader.batch_sampler == dict(
        type='mmdet_imbalance.ResumableBatches', inner=None, drop_last=True
    )
    # torch refuses it beside a batch sampler.
    assert 'drop_last' not in cfg.train_dataloader
    before = cfg.to_dict()
    make_resumable(cfg)
    assert cfg.to_dict() == before
    assert len(cfg.custom_hooks) == 3


@pytest.mark.parametrize(
    'checkpoint',
    [
        dict(type='CheckpointHook', out_dir='s3://bucket'),
        dict(type='CheckpointHook', backend_args=dict(backend='petrel')),
        dict(type='SomebodysHook'),
        None,
    ],
)
def test_other_checkpoint_hooks_are_left_alone(checkpoint):
    cfg = config()
    cfg.default_hooks.checkpoint = checkpoint
    make_resumable(cfg)
    assert cfg.default_hooks.checkpoint == checkpoint


def test_iteration_loops_and_strategies_keep_their_batches():
    cfg = config()
    cfg.train_cfg = dict(by_epoch=False, max_iters=5)
    make_resumable(cfg)
    assert 'batch_sampler' not in cfg.train_dataloader
    cfg = config(runner_type='FlexibleRunner')
    before = cfg.to_dict()
    make_resumable(cfg)
    assert cfg.to_dict() == before


# --- images ---------------------------------------------------------------------------
@pytest.fixture
def damaged(tmp_path, monkeypatch) -> Path:
    """Config of a tiny training, one of whose images is cut off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMDET_IMBALANCE_TRACEBACK', raising=False)
    data = write_data(tmp_path / 'data', num_images=6)
    (data / '3.png').write_bytes((data / '3.png').read_bytes()[:40])
    extra = '\nval_dataloader = val_evaluator = val_cfg = None\n'
    return write_config(tmp_path, data, extra)


def train(path: Path, *argv: str) -> int:
    return load_tool('train').main([str(path), '--work-dir', 'run', *argv])


def test_an_unreadable_image_ends_the_run_with_its_name(damaged, capsys):
    assert train(damaged) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('error: ')
    assert '3.png' in last


def test_unreadable_images_are_skipped_and_counted(damaged, capsys):
    assert train(damaged, '--skip-unreadable', '1') == 0
    (log,) = Path('run').glob('*/*.log')
    skips = [line for line in log.read_text().splitlines() if 'cannot be read' in line]
    assert len(skips) == 1
    assert '(1 so far, at most 1)' in skips[0]
    assert '3.png' in skips[0]
    assert load_checkpoint('run/epoch_1.pth')['meta']['iter'] == 3


def test_too_many_unreadable_images_end_the_run(damaged, capsys):
    assert train(damaged, '--skip-unreadable', '0') == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert '`max_unreadable` is 0' in last
    assert '3.png' in last


def test_readable_images_are_those_of_the_host(tmp_path):
    data = write_data(tmp_path / 'data', num_images=1)
    loaded = LoadReadableImage()(dict(img_path=str(data / '0.png')))
    from mmcv.transforms import LoadImageFromFile

    expected = LoadImageFromFile()(dict(img_path=str(data / '0.png')))
    assert np.array_equal(loaded['img'], expected['img'])


def test_skipping_needs_a_loading_step():
    with pytest.raises(ToolError, match='LoadImageFromFile'):
        skip_unreadable_images(config(), 3)
    with pytest.raises(ToolError, match='negative'):
        skip_unreadable_images(config(), -1)
    with pytest.raises(ValueError, match='ignore_empty'):
        LoadReadableImage(ignore_empty=True)


# --- several processes ----------------------------------------------------------------
def environment(root: Path) -> dict[str, str]:
    return {
        'PATH': '/usr/bin:/bin',
        'PYTHON': sys.executable,
        'PYTHONPATH': str(root),
        'CUDA_VISIBLE_DEVICES': '',
        'OMP_NUM_THREADS': '1',
    }


@pytest.mark.slow
def test_ranks_stop_at_the_same_iteration(tmp_path, project_root):
    # One rank is told at its fourth iteration; they agree at every tenth.
    once = str(tmp_path / 'once')
    stop = f'dict(type="Stop", at=4, name="SIGTERM", once={once!r})'
    finals = {}
    for name, hook in (('whole', ''), ('stopped', stop)):
        path = write_noisy(tmp_path / name, hook, 'dict(by_epoch=True, max_epochs=6)')
        command = ['bash', str(TOOLS / 'dist_train.sh'), str(path), '2', '--seed', '3']
        command += ['--work-dir', str(path.parent / 'run')]
        for more in ([], ['--resume']):
            done = subprocess.run(
                [*command, *more],
                env=environment(project_root),
                cwd=project_root,
                capture_output=True,
                text=True,
                timeout=1500,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            last = (path.parent / 'run' / 'last_checkpoint').read_text()
            if hook and not more:
                assert last.endswith('iter_10.pth')
        finals[name] = load_checkpoint(last)['state_dict']['weight']
        assert load_checkpoint(last)['meta']['iter'] == 18
    assert (finals['whole'] == finals['stopped']).all()


@pytest.mark.slow
def test_a_signal_to_all_processes_spares_those_that_load_data(tmp_path, project_root):
    # As `srun` does it: loaders are told, too.
    path = write_noisy(
        tmp_path,
        train_cfg='dict(by_epoch=True, max_epochs=4000)',
        checkpoint='interval=100000',
        workers=2,
    )
    process = subprocess.Popen(
        [
            sys.executable,
            str(TOOLS / 'train.py'),
            str(path),
            '--work-dir',
            str(tmp_path / 'run'),
        ],
        env=environment(project_root),
        cwd=project_root,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        marker = tmp_path / 'run'
        while not list(marker.glob('*/vis_data/scalars.json')):
            assert process.poll() is None, process.stdout.read()[-3000:]
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGTERM)
        out, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, out[-3000:]
    assert (tmp_path / 'run' / 'last_checkpoint').read_text().endswith('.pth')
