"""Trains several configs through `tools/train.py`, some at a time, with progress.

Each training is a process of its own and writes what any training writes; progress and
figures are read from the host's `scalars.json`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.cli.json_lines import logged_scalars

#: Seconds between two looks at the running processes.
POLL_SECONDS = 0.5


@dataclass
class TrainingRun:
    """One training.

    Attributes:
        name: which variant it is, for the reader.
        config: path of the config.
        seed: of the run and of its training data.
        work_dir: its folder; must be empty of older runs.
        max_iters: number of steps it will take.
        options: further `--cfg-options`.
        seconds: wall time, once it has ended.
    """

    name: str
    config: Path
    seed: int
    work_dir: Path
    max_iters: int
    options: Sequence[str] = ()
    seconds: float = 0.0
    _process: subprocess.Popen | None = field(default=None, repr=False)
    _started: float = 0.0

    @property
    def results_prefix(self) -> Path:
        """Where detections and ground truth are, without suffix."""
        return self.work_dir / 'results'

    @property
    def log_file(self) -> Path:
        """Everything the process printed."""
        return self.work_dir / 'train.log'

    def start(self, train_script: Path, device: str, threads: int) -> None:
        """Start the process."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(train_script), str(self.config)]
        command += ['--work-dir', str(self.work_dir), '--seed', str(self.seed)]
        command += ['--device', device, '--cfg-options']
        command += [f'train_dataloader.dataset.seed={self.seed}']
        command += [f'val_evaluator.0.outfile_prefix={self.results_prefix}']
        command += self.options
        environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
        self._started = time.monotonic()
        with self.log_file.open('wb') as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def has_ended(self) -> bool:
        """Whether the process is gone.

        Raises:
            ToolError: it failed; the message has its last line.
        """
        code = self._process.poll()
        if code is None:
            return False
        self.seconds = time.monotonic() - self._started
        if code != 0:
            lines = self.log_file.read_text(errors='replace').strip().splitlines()
            raise ToolError(
                f'training {self.name!r} (seed {self.seed}) failed: '
                f'{lines[-1] if lines else f"exit code {code}"} (all of it: '
                f'{self.log_file})'
            )
        return True

    def stop(self) -> None:
        """End the process if it is running."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def scalars(self) -> list[dict[str, Any]]:
        """What the host logged so far."""
        return logged_scalars(self.work_dir)

    def fraction(self) -> float:
        """Part of the steps that are done, in [0, 1]."""
        steps = [row['step'] for row in self.scalars() if 'loss' in row]
        return min(max(steps, default=0) / self.max_iters, 1.0)

    def figures(self) -> dict[str, float]:
        """Figures of the last evaluation.

        Raises:
            ToolError: there is none.
        """
        rows = [row for row in self.scalars() if 'coco/AP' in row]
        if not rows:
            raise ToolError(f'no evaluation in {self.work_dir}; see {self.log_file}')
        return rows[-1]


def run_all(
    runs: Sequence[TrainingRun],
    train_script: Path,
    device: str,
    num_parallel: int,
    report: Callable[[str], None],
) -> None:
    """Train all, `num_parallel` at a time; ends every process on an interruption.

    Args:
        runs: what to train.
        train_script: `tools/train.py`.
        device: 'cpu', 'cuda' or 'auto'.
        num_parallel: processes at a time.
        report: is given a line of progress at each look.

    Raises:
        ToolError: a training failed.
    """
    threads = max(1, (os.cpu_count() or 1) // num_parallel)
    waiting, running = list(runs), []
    start = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < num_parallel:
                running.append(waiting.pop(0))
                running[-1].start(train_script, device, threads)
            time.sleep(POLL_SECONDS)
            running = [run for run in running if not run.has_ended()]
            report(_progress(runs, running, waiting, time.monotonic() - start))
    finally:
        for run in running:
            run.stop()


def _progress(runs, running, waiting, seconds: float) -> str:
    parts = [run.fraction() for run in running]
    done = len(runs) - len(running) - len(waiting) + sum(parts)
    total = done / len(runs)
    texts = [
        f'{run.name} seed {run.seed}: '
        + (f'{100 * part:.0f} %' if part < 1 else 'evaluating')
        for run, part in zip(running, parts, strict=True)
    ]
    # The first figures come after a few steps; before, nothing is known.
    left = f', about {seconds * (1 - total) / total:.0f} s left' if total > 0.02 else ''
    return f'[{seconds:4.0f} s] {100 * total:3.0f} %{left}  {"; ".join(texts)}'
