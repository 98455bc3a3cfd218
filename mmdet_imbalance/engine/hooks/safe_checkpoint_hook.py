"""Checkpoints that a kill or a full disk cannot spoil.

Differs from the host: a checkpoint is written beside its final name and renamed, and
what it replaces (`max_keep_ckpts`, the previous best) is deleted after the new one is
complete, not before.  The disk needs room for one checkpoint more.
"""

import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from mmdet_imbalance.engine.atomic_backend import (
    ATOMIC_BACKEND,
    AtomicLocalBackend,
    remove_partial_files,
)
from mmdet_imbalance.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """The host's hook with all its arguments, for the local disk.

    Args:
        **kwargs: those of the host's `CheckpointHook`, without `backend_args` and
            `file_client_args`: other storage writes in its own way.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name in ('backend_args', 'file_client_args'):
            if kwargs.pop(name, None) is not None:
                raise ValueError(
                    f'SafeCheckpointHook writes to the local disk and takes no '
                    f"`{name}`: use the host's CheckpointHook for other storage"
                )
        super().__init__(*args, backend_args=dict(backend=ATOMIC_BACKEND), **kwargs)
        self._depth = 0

    def before_train(self, runner) -> None:
        """Find the folder; clear away what a killed run left half-written."""
        super().before_train(runner)
        # Of this hook alone: removals wait here.
        self.file_backend = _LateRemovals()
        if is_main_process():
            remove_partial_files(self.out_dir)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        with self._removals_last():
            super()._save_checkpoint_with_step(runner, step, meta)
            if is_main_process():
                # The host writes it in place; a kill there leaves an empty file.
                self.file_backend.put_text(
                    self.last_ckpt, osp.join(runner.work_dir, 'last_checkpoint')
                )

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        with self._removals_last():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removals_last(self) -> Iterator[None]:
        """Delete outdated files when the block has ended without an error.

        Blocks nest: saving a best checkpoint saves the last one again.
        """
        self._depth += 1
        try:
            yield
        except BaseException:
            self.file_backend.outdated.clear()
            raise
        finally:
            self._depth -= 1
        if self._depth == 0:
            self.file_backend.remove_outdated(keep=self._current_files())

    def _current_files(self) -> set[str | None]:
        """Files that were written last: one of them may replace its namesake."""
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        return {self.last_ckpt, getattr(self, 'best_ckpt_path', None), *best}


class _LateRemovals(AtomicLocalBackend):
    """Collects what is to be deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.outdated: list[str] = []

    def remove(self, filepath: str) -> None:
        """Delete a file later."""
        self.outdated.append(str(filepath))

    def remove_outdated(self, keep: set[str | None]) -> None:
        """Delete what was collected, except what was written anew since."""
        for path in self.outdated:
            if path not in keep and self.isfile(path):
                super().remove(path)
        self.outdated.clear()
