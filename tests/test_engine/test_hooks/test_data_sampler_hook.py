"""A killed training shows, once resumed, the images that it had still to show."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.dataset import DefaultSampler
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from mmdet_imbalance.datasets.samplers import SoftBalanceSampler
from mmdet_imbalance.engine.hooks import DataSamplerHook, data_sampler_hook
from mmdet_imbalance.engine.hooks.data_sampler_hook import CHECKPOINT_KEY
from tests.helpers.labelled_images import long_tail

LAST_CHECKPOINT = {3: 0, 10: 8, 17: 16}


def launch(root, folder, loop, workers, world_size, *more):
    script = [str(root / 'tests/helpers/resumable_run.py'), str(folder), loop]
    command = [sys.executable]
    if world_size > 1:
        command += ['-m', 'torch.distributed.run', '--standalone']
        command += [f'--nproc_per_node={world_size}']
    environment = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS='1')
    return subprocess.run(
        [*command, *script, str(workers), *more],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
    )


def lines_of(folder, rank):
    return (folder / f'rank{rank}.txt').read_text().splitlines()


@pytest.mark.parametrize(
    ('loop', 'workers', 'world_size', 'kill_at'),
    [
        # 15 iterations an epoch: the kill is in the first, the checkpoint of iteration
        # 16 in the second.  On two ranks an epoch has 8, the last one short.
        ('epoch', 2, 1, 17),
        ('iter', 2, 2, 10),
        pytest.param('epoch', 0, 1, 10, marks=pytest.mark.slow),
        pytest.param('epoch', 0, 2, 10, marks=pytest.mark.slow),
        pytest.param('iter', 0, 1, 17, marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_continues_its_very_stream(
    loop, workers, world_size, kill_at, tmp_path, project_root
):
    folder = tmp_path / 'killed'
    more = ['--kill-at', str(kill_at)]
    killed = launch(project_root, folder, loop, workers, world_size, *more)
    assert killed.returncode != 0
    kept = LAST_CHECKPOINT[kill_at]
    first = [lines_of(folder, rank) for rank in range(world_size)]
    assert all(len(lines) in (kill_at - 1, kill_at) for lines in first)
    # No seed is fixed: the host itself would draw another one.
    resumed = launch(project_root, folder, loop, workers, world_size)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    for rank in range(world_size):
        whole = lines_of(tmp_path / 'whole', rank)
        after = lines_of(folder, rank)[len(first[rank]) :]
        assert first[rank][:kept] + after == whole
        assert len(whole) in (30, 32, 34)


# --- single decisions, with a stand-in for the runner ---------------------------------
class Loop(EpochBasedTrainLoop):
    def __init__(self):
        pass


def runner_of(sampler, epoch=0, iteration=0, loop=None, **loader):
    loader = DataLoader(sampler.dataset, sampler=sampler, batch_size=4, **loader)
    return SimpleNamespace(
        train_dataloader=loader,
        train_loop=loop or Loop(),
        epoch=epoch,
        iter=iteration,
    )


def soft_balance(**more):
    more = dict(seed=3, verbose=False) | more
    return SoftBalanceSampler(long_tail(40), [(0, 0.0), (5, 0.7)], **more)


def resume(hook, runner, **saved):
    saved = dict(seed=9, batch_size=4, world_size=1) | saved
    hook.after_load_checkpoint(runner, {CHECKPOINT_KEY: saved})
    hook.before_train_epoch(runner)


@pytest.fixture
def warnings(monkeypatch):
    texts = []
    monkeypatch.setattr(
        data_sampler_hook, 'print_log', lambda text, **kwargs: texts.append(text)
    )
    return texts


def test_the_batch_size_reaches_the_sampler():
    sampler = soft_balance(by_epoch=False, infinite=False)
    DataSamplerHook().before_train(runner_of(sampler))
    assert sampler.batch_size == 4
    with pytest.raises(ValueError, match='batch_size=8'):
        DataSamplerHook().before_train(runner_of(soft_balance(batch_size=8)))


def test_an_endless_stream_is_refused_in_the_epoch_loop():
    with pytest.raises(ValueError, match='infinite=False'):
        DataSamplerHook().before_train(runner_of(soft_balance(by_epoch=False)))


def test_a_finite_stream_in_the_iteration_loop_warns(warnings):
    DataSamplerHook().before_train(runner_of(soft_balance(), loop=object()))
    assert 'infinite=True' in warnings[0]


def test_seed_and_place_return_from_the_checkpoint():
    saving = soft_balance(seed=9)
    checkpoint = {}
    DataSamplerHook().before_save_checkpoint(runner_of(saving), checkpoint)
    sampler = soft_balance(seed=3)
    hook, runner = DataSamplerHook(), runner_of(sampler, epoch=1, iteration=13)
    hook.after_load_checkpoint(runner, checkpoint)
    sampler.set_epoch(1)
    hook.before_train_epoch(runner)
    assert list(sampler) == saving.round_stream(1).tolist()[12:]
    # Only once: the next epoch is whole again.
    sampler.set_epoch(2)
    runner.epoch, runner.iter = 2, 20
    hook.before_train_epoch(runner)
    assert list(sampler) == saving.round_stream(2).tolist()


def test_a_checkpoint_of_the_last_iteration_leaves_nothing_of_its_epoch():
    sampler = soft_balance()
    sampler.set_epoch(1)
    resume(DataSamplerHook(), runner_of(sampler, epoch=1, iteration=20))
    assert list(sampler) == []


def test_a_checkpoint_that_is_only_loaded_changes_nothing():
    sampler = soft_balance(seed=3)
    resume(DataSamplerHook(), runner_of(sampler, iteration=0))
    assert sampler.seed == 3


def test_another_batch_size_or_number_of_ranks_warns(warnings):
    runner = runner_of(soft_balance(), epoch=1, iteration=10)
    resume(DataSamplerHook(), runner, batch_size=8, world_size=2)
    assert 'batch_size 8 -> 4 and world_size 2 -> 1' in warnings[0]


def test_a_batch_sampler_that_holds_images_back_begins_the_epoch_again(warnings):
    sampler = soft_balance()
    runner = runner_of(sampler, epoch=1, iteration=13)
    runner.train_dataloader = DataLoader(
        sampler.dataset, batch_sampler=AspectRatioBatchSampler(sampler, 4)
    )
    sampler.set_epoch(1)
    resume(DataSamplerHook(), runner)
    assert 'AspectRatioBatchSampler' in warnings[0]
    assert list(sampler) == sampler.round_stream(1).tolist()


def test_a_sampler_of_the_host_is_left_alone():
    sampler = DefaultSampler(long_tail(40), seed=3)
    hook, runner = DataSamplerHook(), runner_of(sampler, epoch=1, iteration=13)
    checkpoint = {}
    hook.before_train(runner)
    hook.before_save_checkpoint(runner, checkpoint)
    resume(hook, runner)
    assert checkpoint == {}
    assert sampler.seed == 3
