"""A checkpoint and a clean end when the scheduler wants the machine back.

SLURM and most schedulers send SIGTERM and kill after a grace time.  Python's default is
to die at once, with all that was learned since the last checkpoint.
"""

import os.path as osp
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, is_distributed, is_main_process
from mmengine.hooks import Hook

from mmdet_imbalance.engine.atomic_backend import ATOMIC_BACKEND, AtomicLocalBackend
from mmdet_imbalance.registry import HOOKS


class Preempted(Exception):
    """Leaves the training loop after the checkpoint is written; no error.

    Attributes:
        checkpoint: path of what was saved.
    """

    def __init__(self, name: str, iteration: int, checkpoint: str) -> None:
        super().__init__(
            f'stopped by {name} after iteration {iteration}: {checkpoint} is saved, '
            '--resume goes on from there'
        )
        self.checkpoint = checkpoint


class ShieldedWorker:
    """Initialises a process that loads data so that it survives the first SIGTERM.

    A scheduler signals every process of a job.  Without its loaders the training could
    not finish the iteration; it ends them itself.

    Args:
        init_fn: the initialisation that the data loader had.
    """

    def __init__(self, init_fn: Callable[[int], None] | None) -> None:
        self.init_fn = init_fn

    def __call__(self, worker_id: int) -> None:
        """Run in the new process."""
        if self.init_fn is not None:
            self.init_fn(worker_id)
        signal.signal(signal.SIGTERM, _die_of_the_next)


def _die_of_the_next(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint at the next iteration after a signal, and stop.

    The first signal is noted and its handler taken away, so that a second one kills as
    ever.  The checkpoint is `iter_N.pth` in the work folder and becomes the last one of
    the run.  In validation nothing is trained: it is left at once.

    Args:
        signals: names of the signals that ask for it; `#SBATCH --signal=USR1@120` can
            send another one earlier than SIGTERM.
        interval: iterations from one agreement of the ranks to the next. They must stop
            at the same one, and asking means waiting for the GPU. A single process
            looks at each iteration.
    """

    # After the hooks that step schedulers and write ordinary checkpoints.
    priority = 'LOWEST'

    def __init__(
        self, signals: Sequence[str] = ('SIGTERM',), interval: int = 10
    ) -> None:
        unknown = [name for name in signals if not hasattr(signal, str(name))]
        if isinstance(signals, str) or unknown:
            raise ValueError(
                "`signals` must be a list of names such as ['SIGTERM', 'SIGUSR1'], "
                f'got {signals!r}'
            )
        if interval < 1:
            raise ValueError(f'`interval` must be at least 1, got {interval}')
        self.signals = [signal.Signals[name] for name in signals]
        self.interval = interval
        self.received: signal.Signals | None = None
        self._former: dict[signal.Signals, Any] = {}

    def before_train(self, runner) -> None:
        """Begin to listen; only the main thread of a process may."""
        self.received = None
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                loader = loop.dataloader
                loader.worker_init_fn = ShieldedWorker(loader.worker_init_fn)
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._former[number] = signal.signal(number, self._note)

    def after_train(self, runner) -> None:
        """Stop listening."""
        self.close()

    def close(self) -> None:
        """Give the signals back to whoever had them; for a training that failed."""
        for number, handler in self._former.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._former.clear()

    def after_train_iter(self, runner, batch_idx: int, *args, **kwargs) -> None:
        """Save and leave, if a rank was asked to."""
        if self._is_asked(runner.iter + 1):
            self._stop(runner, runner.iter + 1)

    def after_val_iter(self, runner, batch_idx: int, *args, **kwargs) -> None:
        """In validation all steps before are done and counted."""
        if self._former and self._is_asked(batch_idx + 1):
            self._stop(runner, runner.iter)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)

    def _is_asked(self, step: int) -> bool:
        if not is_distributed():
            return self.received is not None
        if step % self.interval:
            return False
        number = torch.tensor(int(self.received or 0))
        all_reduce(number, 'max')
        if number > 0:
            self.received = signal.Signals(int(number))
        return self.received is not None

    def _stop(self, runner, iteration: int) -> None:
        name = f'iter_{iteration}.pth'
        runner.save_checkpoint(
            runner.work_dir,
            name,
            meta=dict(epoch=runner.epoch, iter=iteration),
            backend_args=dict(backend=ATOMIC_BACKEND),
        )
        path = osp.join(runner.work_dir, name)
        if is_main_process():
            marker = osp.join(runner.work_dir, 'last_checkpoint')
            AtomicLocalBackend().put_text(path, marker)
        self.close()
        raise Preempted(self.received.name, iteration, path)
