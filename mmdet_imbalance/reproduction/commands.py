"""The command lines of jobs, for one process, torchrun or SLURM."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdet_imbalance.reproduction.jobs import ROWS, Job, as_option


@dataclass(frozen=True)
class Launch:
    """How processes are started.

    Attributes:
        tools: folder of the tools.
        launcher: 'none', 'pytorch' or 'slurm'.
        gpus: processes of a training, with a launcher.
        device: 'auto', 'cpu' or 'cuda'.
        partition: of SLURM.
    """

    tools: Path
    launcher: str = 'none'
    gpus: int = 1
    device: str = 'auto'
    partition: str | None = None

    def command(self, job: Job, checkpoint: Path | None) -> list[str]:
        """Command of a job.

        Args:
            job: what is to run.
            checkpoint: for a re-training.
        """
        if job.kind == 'annotation':
            return [
                *(sys.executable, str(self.tools / 'make_longtail.py')),
                *(str(job.config), '--out', str(job.work_dir / 'train.json')),
                *job.options,
            ]
        if job.kind == 'train':
            return self._train(job)
        arguments = [str(job.config), str(checkpoint), *self._common(job)]
        arguments += ['--results', str(job.folder / ROWS), '--name', job.label]
        tool = [sys.executable, str(self.tools / 'retrain_head.py')]
        return self._one_task(job) + tool + arguments + self._settings(job)

    def test(self, job: Job, checkpoint: Path) -> list[str]:
        """Command that evaluates the last checkpoint of a training."""
        arguments = [str(job.config), str(checkpoint)]
        arguments += ['--work-dir', str(job.folder / 'test'), '--device', self.device]
        arguments += self._data_root(job) + self._settings(job)
        tool = [sys.executable, str(self.tools / 'test.py')]
        return self._one_task(job) + tool + arguments

    def environment(self) -> dict[str, str]:
        """Variables of the process."""
        if self.launcher != 'slurm':
            return dict(os.environ)
        return {**os.environ, 'GPUS': str(self.gpus), 'PYTHON': sys.executable}

    def _train(self, job: Job) -> list[str]:
        script = str(self.tools / 'train.py')
        tail = [*self._common(job), '--resume', *job.options, *self._settings(job)]
        if self.launcher == 'none':
            return [sys.executable, script, str(job.config), *tail]
        if self.launcher == 'pytorch':
            start = [sys.executable, '-m', 'mmdet_imbalance.cli.launch', str(self.gpus)]
            return [*start, script, str(job.config), *tail]
        # The script names the work folder by its place.
        at = tail.index('--work-dir')
        del tail[at : at + 2]
        start = ['bash', str(self.tools / 'slurm_train.sh'), str(self.partition)]
        return [*start, _slurm_name(job), str(job.config), str(job.work_dir), *tail]

    def _common(self, job: Job) -> list[str]:
        words = ['--work-dir', str(job.work_dir), '--seed', str(job.seed)]
        words += ['--device', self.device, *self._data_root(job)]
        # `--resume` takes an optional word: no option of the table may follow it
        # that is none.
        return words if job.kind == 'train' else [*words, *job.options]

    def _data_root(self, job: Job) -> list[str]:
        return [] if job.data_root is None else ['--data-root', str(job.data_root)]

    def _settings(self, job: Job) -> list[str]:
        values = job.all_overrides()
        if not values:
            return []
        return ['--cfg-options', *(as_option(*item) for item in values.items())]

    def _one_task(self, job: Job) -> list[str]:
        """Prefix of what runs in one process."""
        if self.launcher != 'slurm':
            return []
        return [
            *('srun', f'--partition={self.partition}'),
            *(f'--job-name={_slurm_name(job)}', '--gres=gpu:1', '--ntasks=1'),
        ]


def checkpoint_of(job: Job) -> Path | None:
    """Checkpoint of a re-training, None while it does not exist."""
    if isinstance(job.stock, Job):
        return last_checkpoint(job.stock)
    return job.stock


def last_checkpoint(job: Job) -> Path | None:
    """Last checkpoint of a training, None where there is none."""
    marker = job.work_dir / 'last_checkpoint'
    if not marker.is_file():
        return None
    # The marker holds the path as it was; the folder may have been moved since.
    path = job.work_dir / Path(marker.read_text().strip()).name
    return path if path.is_file() else None


def shell_line(words: Sequence[str]) -> str:
    """A command as one writes it into a shell."""
    return ' '.join(shlex.quote(word) for word in words)


def _slurm_name(job: Job) -> str:
    return f'{job.config.stem[:40]}-{job.key[:4]}-s{job.seed}'
