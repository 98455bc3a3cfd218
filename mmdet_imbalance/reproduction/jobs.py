"""Jobs of a table: what has to run, in which folder, with which command.

A job is a row with a seed, or something that rows need: a stock checkpoint, a cut
annotation. Its folder bears a hash of everything that decides its figures, so that a
changed row is another job, and rows that several tables share run once.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULT, LOG, LOCK, FAILURE = 'result.json', 'log.txt', 'lock', 'failure.json'
ROWS = 'rows.jsonl'
#: Digits of the hash in a folder's name.
KEY_DIGITS = 10


@dataclass(eq=False)
class Job:
    """Something that is run once.

    Attributes:
        kind: 'train', 'retrain_head' or 'annotation'.
        label: for the reader.
        config: path of the config; for an annotation of the file to cut.
        seed: of the run.
        options: of the tool.
        overrides: of the config that decide the figures.
        content: what the config says with them, for the key.
        data_root: folder of the data, or None for the config's own.
        out: folder of all jobs.
        group: name of the folder between `out` and the job's.
        final: epoch or iteration at which a training ends.
        stock: job or file that gives the checkpoint of a re-training.
        inputs: jobs whose files the config takes, by the config's key, with the name
            of the file.
        evaluators: keys of the config's metrics that can write detections.
        missing: why the job cannot run, e.g. a checkpoint that is not there.
    """

    kind: str
    label: str
    config: Path
    seed: int
    options: tuple[str, ...]
    overrides: dict[str, Any]
    content: Any
    data_root: Path | None
    out: Path
    group: str
    final: int | None = None
    stock: 'Job | Path | None' = None
    inputs: dict[str, tuple['Job', str]] = field(default_factory=dict)
    evaluators: tuple[str, ...] = ()
    missing: str | None = None

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that decides the figures, but for the seed.

        Read once the job is complete.
        """
        needs = {key: [job.key, name] for key, (job, name) in self.inputs.items()}
        if isinstance(self.stock, Job):
            needs['stock'] = self.stock.key
        elif self.stock is not None:
            needs['stock'] = file_digest(self.stock)
        parts = [self.kind, self.content, self.options, needs]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """Folder of the job."""
        name = f'{self.config.stem}-{self.key[:KEY_DIGITS]}'
        return self.out / 'runs' / self.group / name / f'seed{self.seed}'

    @property
    def work_dir(self) -> Path:
        """Folder that the tool writes to."""
        return self.folder / 'work'

    @property
    def log(self) -> Path:
        """Everything the tool printed."""
        return self.folder / LOG

    @property
    def needs(self) -> list['Job']:
        """Jobs that come before."""
        jobs = [job for job, _ in self.inputs.values()]
        return [self.stock, *jobs] if isinstance(self.stock, Job) else jobs

    def result(self) -> dict[str, Any] | None:
        """What the finished job found, or None."""
        if self.missing is not None:
            return None
        try:
            result = json.loads((self.folder / RESULT).read_text(encoding='utf-8'))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return result if result.get('key') == self.key else None

    def failure(self) -> dict[str, str] | None:
        """Why the last attempt ended, or None: `line` and `log`."""
        if self.missing is not None:
            return {'line': self.missing, 'log': '-'}
        try:
            return json.loads((self.folder / FAILURE).read_text(encoding='utf-8'))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    @property
    def state(self) -> str:
        """'finished', 'interrupted' (there is something to continue) or 'to run'."""
        if self.result() is not None:
            return 'finished'
        if self.missing is not None:
            return 'cannot run'
        return 'interrupted' if self.work_dir.is_dir() else 'to run'

    def all_overrides(self) -> dict[str, Any]:
        """Overrides with those that name files of this machine."""
        values = dict(self.overrides)
        for key, (job, name) in self.inputs.items():
            values[key] = str((job.work_dir / name).absolute())
        prefix = str((self.folder / 'results').absolute())
        for evaluator in self.evaluators:
            values[f'{evaluator}.outfile_prefix'] = prefix
        return values


def with_needs(jobs: Sequence[Job]) -> list[Job]:
    """Jobs and what they need, each folder once.

    What others need stands in front, so that an array of SLURM jobs can wait for it as
    one.
    """
    found: dict[object, Job] = {}
    needed: set[object] = set()

    def add(job: Job) -> None:
        for need in job.needs:
            needed.add(identity(need))
            add(need)
        found.setdefault(identity(job), job)

    for job in jobs:
        add(job)
    # Stable: a need of a need was found before it.
    return sorted(found.values(), key=lambda job: identity(job) not in needed)


def identity(job: Job) -> object:
    """What two objects of the same job share."""
    return (job.label, job.seed) if job.missing else job.folder


_DIGESTS: dict[tuple[str, int, int], str] = {}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _DIGESTS:
        digest = hashlib.sha256()
        with path.open('rb') as file:
            while block := file.read(1 << 22):
                digest.update(block)
        _DIGESTS[key] = digest.hexdigest()
    return _DIGESTS[key]


def as_option(key: str, value: Any) -> str:
    """KEY=VALUE for --cfg-options."""
    return f'{key}={_written(value)}'


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return '[' + ','.join(_written(v) for v in value) + ']'
    return str(value)


def unfinished(jobs: Sequence[Job]) -> Iterator[Job]:
    """Jobs without a result, in order."""
    return (job for job in jobs if job.result() is None)
