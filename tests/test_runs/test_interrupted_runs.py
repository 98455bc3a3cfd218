"""Runs that are killed, stopped, or fill the disk: what is left, and how they go on."""

import multiprocessing
import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mmdet_imbalance.cli.runs import last_complete_checkpoint, load_checkpoint
from tests.helpers.noisy_run import EPOCHS, ITERATIONS, ITERS_PER_EPOCH, write_config
from tests.helpers.tools import load_tool

LOOPS = {
    'epochs': (EPOCHS, 'interval=1'),
    'iterations': (ITERATIONS, 'by_epoch=False, interval=4'),
}
LAST = {'epochs': 'epoch_3.pth', 'iterations': 'iter_18.pth'}


def plain_text(text: str, **kwargs) -> tuple[str, bool]:
    """Stands in for yapf, which takes longer over a config than the training takes."""
    return text, True


@pytest.fixture(autouse=True)
def _plain_errors(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMDET_IMBALANCE_TRACEBACK', raising=False)
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', plain_text)


def train(config: Path, *argv: str) -> int:
    run = ['--work-dir', str(config.parent / 'run'), '--seed', '3']
    return load_tool('train').main([str(config), *run, *argv])


def exit_code(config: Path, *argv: str) -> int:
    """Of a child process, negative for a signal that killed it."""
    child = multiprocessing.get_context('fork').Process(
        target=lambda: os._exit(train(config, *argv))
    )
    child.start()
    child.join(120)
    return child.exitcode


def weights(config: Path, name: str) -> torch.Tensor:
    return load_checkpoint(str(config.parent / 'run' / name))['state_dict']['weight']


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Final weights of the uninterrupted run, by loop."""
    found = {}
    for loop, (train_cfg, checkpoint) in LOOPS.items():
        folder = tmp_path_factory.mktemp(loop)
        config = write_config(folder, train_cfg=train_cfg, checkpoint=checkpoint)
        assert train(config) == 0
        found[loop] = weights(config, LAST[loop])
    return found


def stop(folder: Path, at: int, name: str, phase: str = 'train') -> str:
    once = str(folder / 'stopped')
    return f'dict(type="Stop", at={at}, name={name!r}, once={once!r}, phase={phase!r})'


# --- kill -9 --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ('loop', 'at'),
    # Before the first checkpoint, within an epoch, at its end, before the last step.
    [('epochs', 2), ('epochs', 9), ('epochs', 12), ('epochs', 17)]
    + [('iterations', at) for at in (3, 9, 15)],
)
def test_a_killed_run_ends_with_the_weights_of_the_whole_one(loop, at, whole, tmp_path):
    train_cfg, checkpoint = LOOPS[loop]
    config = write_config(
        tmp_path, stop(tmp_path, at, 'SIGKILL'), train_cfg, checkpoint
    )
    assert exit_code(config) == -signal.SIGKILL
    assert train(config, '--resume') == 0
    assert torch.equal(weights(config, LAST[loop]), whole[loop])


def test_other_seeds_end_elsewhere(whole, tmp_path):
    # The comparison above can fail.
    config = write_config(tmp_path)
    assert train(config, '--seed', '4') == 0
    assert not torch.equal(weights(config, LAST['epochs']), whole['epochs'])


def test_the_host_alone_ends_elsewhere(tmp_path, whole):
    config = write_config(tmp_path, stop(tmp_path, 9, 'SIGKILL'))
    assert exit_code(config, '--host-hooks') == -signal.SIGKILL
    assert train(config, '--resume', '--host-hooks') == 0
    assert not torch.equal(weights(config, LAST['epochs']), whole['epochs'])


# --- SIGTERM --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ('loop', 'at', 'phase', 'saved'),
    [
        ('epochs', 9, 'train', 9),
        ('epochs', 12, 'train', 12),
        ('epochs', 2, 'val', ITERS_PER_EPOCH),
        ('iterations', 9, 'train', 9),
        ('iterations', 2, 'val', 7),
    ],
)
def test_sigterm_saves_and_ends_cleanly(loop, at, phase, saved, whole, tmp_path):
    former = signal.getsignal(signal.SIGTERM)
    train_cfg, checkpoint = LOOPS[loop]
    text = stop(tmp_path, at, 'SIGTERM', phase)
    config = write_config(tmp_path, text, train_cfg, checkpoint)
    assert train(config) == 0
    assert signal.getsignal(signal.SIGTERM) == former
    run = tmp_path / 'run'
    assert Path((run / 'last_checkpoint').read_text()) == run / f'iter_{saved}.pth'
    meta = load_checkpoint(str(run / f'iter_{saved}.pth'))['meta']
    assert meta['iter'] == saved
    assert not (run / LAST[loop]).exists()
    assert train(config, '--resume') == 0
    assert torch.equal(weights(config, LAST[loop]), whole[loop])


def test_another_batch_size_begins_the_epoch_again_with_a_warning(tmp_path):
    config = write_config(tmp_path, stop(tmp_path, 9, 'SIGTERM'))
    assert train(config) == 0
    other = ('--cfg-options', 'train_dataloader.batch_size=4')
    assert train(config, '--resume', *other) == 0
    logs = ''.join(path.read_text() for path in (tmp_path / 'run').glob('*/*.log'))
    assert 'WARNING - epoch 2 begins again: iteration 9' in logs


def test_a_second_sigterm_kills(tmp_path):
    config = write_config(
        tmp_path,
        # Both within one iteration: the hook has no time to save.
        stop(tmp_path, 4, 'SIGTERM') + ', dict(type="Stop", at=4, name="SIGTERM", '
        f'once={str(tmp_path / "second")!r})',
    )
    assert exit_code(config) == -signal.SIGTERM


# --- a full disk ----------------------------------------------------------------------
@contextmanager
def largest_file(num_bytes: int):
    """Writing more into a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_spoils_nothing(tmp_path, capsys, whole):
    config = write_config(tmp_path, checkpoint='interval=1, max_keep_ckpts=1')
    assert train(config, '--cfg-options', 'train_cfg.max_epochs=1') == 0
    run = tmp_path / 'run'
    before = (run / 'epoch_1.pth').read_bytes()
    capsys.readouterr()
    with largest_file(len(before) // 2):
        assert train(config, '--resume') == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith('error: the disk is full')
    assert 'epoch_2.pth' in lines[-1]
    assert '--resume' in lines[-1]
    # The host would have deleted it before it wrote the next one.
    assert (run / 'epoch_1.pth').read_bytes() == before
    assert not list(run.glob('.*')), 'a part of a file is left'
    assert not (run / 'epoch_2.pth').exists()
    assert train(config, '--resume') == 0
    assert torch.equal(weights(config, 'epoch_3.pth'), whole['epochs'])
    assert [path.name for path in run.glob('*.pth')] == ['epoch_3.pth']


def test_a_kill_in_the_middle_of_a_file_spoils_nothing(tmp_path, whole):
    config = write_config(tmp_path)
    assert train(config, '--cfg-options', 'train_cfg.max_epochs=1') == 0
    run = tmp_path / 'run'
    size = (run / 'epoch_1.pth').stat().st_size

    def killed():
        # The kernel ends the process at the byte that is too many.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        with largest_file(size // 2):
            train(config, '--resume')

    child = multiprocessing.get_context('fork').Process(target=killed)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGXFSZ
    (part,) = run.glob('.*.partial')
    assert 0 < part.stat().st_size < size
    assert train(config, '--resume') == 0
    assert torch.equal(weights(config, 'epoch_3.pth'), whole['epochs'])
    assert not part.exists()


# --- which checkpoint -----------------------------------------------------------------
def test_a_cut_off_checkpoint_is_passed_over(tmp_path, whole, capsys):
    config = write_config(tmp_path)
    assert train(config, '--cfg-options', 'train_cfg.max_epochs=2') == 0
    last = tmp_path / 'run' / 'epoch_2.pth'
    last.write_bytes(last.read_bytes()[:-300])
    capsys.readouterr()
    assert train(config, '--resume') == 0
    out = capsys.readouterr().out
    assert 'warning: --resume:' in out
    assert f'{last} is no checkpoint' in out
    assert 'epoch_1.pth' in out
    assert torch.equal(weights(config, 'epoch_3.pth'), whole['epochs'])


def save(path: Path, age: int, **more) -> Path:
    torch.save({'state_dict': {}, 'meta': {}, 'optimizer': {}, **more}, path)
    os.utime(path, (10_000 - age, 10_000 - age))
    return path


def test_the_marker_says_which_one_then_the_newest(tmp_path):
    one, two = save(tmp_path / 'epoch_1.pth', 2), save(tmp_path / 'epoch_2.pth', 1)
    save(tmp_path / 'best_coco_AP_epoch_9.pth', 0)
    assert last_complete_checkpoint(tmp_path)[0] == two
    marker = tmp_path / 'last_checkpoint'
    marker.write_text(f'where/it/was/once/{one.name}')
    assert last_complete_checkpoint(tmp_path)[0] == one
    one.write_bytes(b'PK')
    assert last_complete_checkpoint(tmp_path)[0] == two
    # A kill while the host wrote the marker.
    marker.write_text('')
    assert last_complete_checkpoint(tmp_path)[0] == two


def test_without_a_checkpoint_a_run_begins_anew(tmp_path, whole, capsys):
    assert last_complete_checkpoint(tmp_path) is None
    config = write_config(tmp_path)
    assert train(config, '--resume') == 0
    assert 'begins anew' in capsys.readouterr().out
    assert torch.equal(weights(config, 'epoch_3.pth'), whole['epochs'])


def test_only_broken_checkpoints_are_one_line(tmp_path, capsys):
    config = write_config(tmp_path)
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'epoch_1.pth').write_bytes(b'PK\x03\x04')
    assert train(config, '--resume') == 2
    assert 'error: --resume: no complete checkpoint in' in capsys.readouterr().err
