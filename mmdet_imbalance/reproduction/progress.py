"""What a run of jobs shows: a moving line on a terminal, a line an event elsewhere."""

import time
from collections.abc import Sequence
from statistics import median

from mmdet_imbalance.reproduction.jobs import Job
from mmdet_imbalance.reproduction.logged_figures import seconds_left


class Progress:
    """Reports the events of a `Runner`.

    Args:
        jobs: all of them, finished ones included: these say how long others take.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bar

        self.jobs = jobs
        self.seconds: dict[str, list[float]] = {}
        self.todo: dict[int, Job] = {}
        for job in jobs:
            result = job.result()
            if result is None:
                self.todo[id(job)] = job
            else:
                self.seconds.setdefault(job.kind, []).append(result['seconds'])
        self.console = Console(highlight=False)
        self.is_live = self.console.is_terminal
        self.bar = Bar(
            TextColumn('{task.description}', markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('{task.fields[left]}', markup=False),
            console=self.console,
            disable=not self.is_live,
        )
        done = len(jobs) - len(self.todo)
        self.task = self.bar.add_task('', total=len(jobs), completed=done, left='')
        self._started = time.monotonic()

    def __enter__(self) -> 'Progress':
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def __call__(self, event: str, job: Job | None) -> None:
        """Show an event; see `Runner`."""
        if job is None:
            self.bar.update(self.task, description='waits for another process', left='')
            return
        name = f'{job.label}, seed {job.seed}'
        if event == 'start':
            self._started = time.monotonic()
            self._say(f'{name}: starts (log: {job.log})')
        elif event == 'end':
            seconds = time.monotonic() - self._started
            self.seconds.setdefault(job.kind, []).append(seconds)
            self._close(job)
            self._say(f'{name}: finished in {duration(seconds)}{self._rest()}')
        elif event == 'failed':
            self._close(job)
            failure = job.failure() or {'line': 'failed', 'log': job.log}
            self.console.print(
                f'{name}: FAILED: {failure["line"]} (log: {failure["log"]})',
                markup=False,
                soft_wrap=True,
            )
        left = self.left(job)
        self.bar.update(
            self.task,
            description=name,
            left='' if left is None else f'about {duration(left)} left',
        )

    def left(self, running: Job | None = None) -> float | None:
        """Seconds until all is done, None while nothing is known of a kind of job."""
        total = 0.0
        for job in self.todo.values():
            own = seconds_left(job) if job is running else None
            if own is None:
                known = self.seconds.get(job.kind)
                if not known:
                    return None
                own = median(known)
                if job is running:
                    own = max(own - (time.monotonic() - self._started), 0.0)
            total += own
        return total

    def _close(self, job: Job) -> None:
        if self.todo.pop(id(job), None) is not None:
            self.bar.advance(self.task)

    def _rest(self) -> str:
        left, num = self.left(), len(self.todo)
        if not num:
            return ''
        known = '' if left is None else f', about {duration(left)}'
        return f'; {num} of {len(self.jobs)} left{known}'

    def _say(self, line: str) -> None:
        if not self.is_live:
            self.console.print(line, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """'45 s', '12 min' or '3.5 h'."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    if seconds < 90 * 60:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h'
