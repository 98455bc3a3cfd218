"""Runs jobs one after the other; several processes may share the folder.

A job is finished when its `result.json` exists, which appears whole or not at all.
While a job runs, its folder is locked, and the lock goes with the last process that
works in it: whatever is killed, nothing has to be cleaned up.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.core.atomic_write import write_text_atomically
from mmdet_imbalance.reproduction.commands import (
    Launch,
    checkpoint_of,
    last_checkpoint,
)
from mmdet_imbalance.reproduction.jobs import (
    FAILURE,
    LOCK,
    RESULT,
    ROWS,
    Job,
    identity,
    unfinished,
)
from mmdet_imbalance.reproduction.logged_figures import (
    retrained_figures,
    tested_figures,
    trained_figures,
)

POLL_SECONDS = 0.5
#: Seconds that a process has to write a checkpoint when it is told to end.
PATIENCE = 60


class JobError(Exception):
    """A job that failed; its text is the last line of the log."""


class Runner:
    """Runs what is unfinished.

    Args:
        launch: how processes are started.
        report: told of the events 'start', 'progress', 'end', 'failed' and 'waiting',
            with the job, or with None for 'waiting'.
    """

    def __init__(
        self, launch: Launch, report: Callable[[str, Job | None], None]
    ) -> None:
        self.launch, self.report = launch, report

    def run(self, jobs: Sequence[Job]) -> list[Job]:
        """Run jobs in an order in which needs come first; returns those that failed.

        A job that another process is running is left to that, and waited for.
        """
        waiting, failed = list(unfinished(jobs)), []
        lost: set[object] = set()
        while waiting:
            is_locked = False
            for job in waiting:
                broken = [n for n in job.needs if identity(n) in lost]
                if job.missing is not None or broken:
                    if broken:
                        self._fail(job, f'needs {broken[0].label}, which failed')
                    failed.append(job)
                    lost.add(identity(job))
                    self.report('failed', job)
                    waiting.remove(job)
                    break
                if any(need.result() is None for need in job.needs):
                    continue
                with locked(job) as lock:
                    if lock is None:
                        is_locked = True
                        continue
                    # Another process may have finished it a moment ago.
                    if job.result() is None and not self._attempt(job, lock):
                        failed.append(job)
                        lost.add(identity(job))
                waiting.remove(job)
                break
            else:
                if not is_locked:
                    raise ToolError(f'nothing can be run of {len(waiting)} jobs')
                self.report('waiting', None)
                time.sleep(4 * POLL_SECONDS)
        return failed

    def _attempt(self, job: Job, lock: int) -> bool:
        """Run a job; returns whether it finished."""
        self.report('start', job)
        (job.folder / FAILURE).unlink(missing_ok=True)
        try:
            finish(job, self.launch, lock, lambda: self.report('progress', job))
        except JobError as error:
            self._fail(job, str(error))
            self.report('failed', job)
            return False
        self.report('end', job)
        return True

    def _fail(self, job: Job, line: str) -> None:
        content = {'line': line, 'log': str(job.log)}
        write_text_atomically(job.folder / FAILURE, json.dumps(content))


@contextmanager
def locked(job: Job) -> Iterator[int | None]:
    """Descriptor of the job's lock, None where another process holds it."""
    job.folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(job.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def finish(job: Job, launch: Launch, lock: int, look: Callable[[], None]) -> None:
    """Run a job to its end, and write its result.

    Args:
        job: its needs must be finished.
        launch: how processes are started.
        lock: descriptor that the processes inherit, so that the folder stays locked
            while one of them lives.
        look: called from time to time.

    Raises:
        JobError: the process failed, or left no figures.
    """
    started = time.monotonic()
    if job.kind == 'retrain_head':
        # It begins anew: only what it leaves this time counts.
        (job.folder / ROWS).unlink(missing_ok=True)
        shutil.rmtree(job.work_dir, ignore_errors=True)
    job.work_dir.mkdir(parents=True, exist_ok=True)
    command = launch.command(job, checkpoint_of(job))
    _call(job, command, launch, lock, look, 'wb')
    metrics: dict[str, float] | None
    if job.kind == 'train':
        metrics = trained_figures(job)
        if metrics is None:
            # Killed between the last checkpoint and the last evaluation.
            checkpoint = last_checkpoint(job)
            if checkpoint is None:
                raise JobError('the training ended without a checkpoint')
            _call(job, launch.test(job, checkpoint), launch, lock, look, 'ab')
            metrics = tested_figures(job)
    elif job.kind == 'retrain_head':
        metrics = retrained_figures(job)
    else:
        metrics = {}
    if metrics is None:
        raise JobError('the process ended well, but left no figures')
    result: dict[str, Any] = dict(
        key=job.key,
        label=job.label,
        kind=job.kind,
        config=str(job.config),
        overrides=job.overrides,
        options=list(job.options),
        seed=job.seed,
        stock=str(checkpoint_of(job)) if job.stock is not None else None,
        metrics=metrics,
        seconds=round(time.monotonic() - started, 1),
        finished=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        version=_version(),
    )
    write_text_atomically(job.folder / RESULT, json.dumps(result, indent=1) + '\n')


def _call(job, command, launch, lock, look, mode) -> None:
    """Run a process and wait for it; ends it when this one is interrupted.

    It has a session of its own, so that Ctrl-C reaches it through us alone.
    """
    with job.log.open(mode) as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=launch.environment(),
            pass_fds=(lock,),
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            look()
    finally:
        if process.poll() is None:
            _end(process)
    if process.returncode:
        raise JobError(_reason(job, process.returncode))


def _reason(job: Job, code: int) -> str:
    """Why a process ended with this exit code."""
    line = last_line(job)
    # A process that was killed had no last word: its last line is about something else.
    if code < 0 and not line.startswith('error: '):
        return f'killed by signal {-code} ({signal.Signals(-code).name})'
    return line or f'exit code {code}'


def _end(process: subprocess.Popen) -> None:
    """End a process and its children, first politely."""
    for number, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
            break
        except subprocess.TimeoutExpired:
            continue


def last_line(job: Job) -> str:
    """What a log ends with: its last error, else its last line."""
    if not job.log.is_file():
        return ''
    text = re.sub(r'\x1b\[[0-9;]*[A-Za-z]', '', job.log.read_text(errors='replace'))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith('error: ')]
    return (errors or lines or [''])[-1]


def _version() -> str:
    from mmdet_imbalance.version import __version__

    return __version__
