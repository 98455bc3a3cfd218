"""Figures and progress of a job, from what its tool wrote."""

import json
import re

from mmdet_imbalance.cli.json_lines import logged_scalars, read_json_lines
from mmdet_imbalance.reproduction.jobs import ROWS, Job

#: Bytes at the end of a log that are searched for the time left.
TAIL = 1 << 14


def trained_figures(job: Job) -> dict[str, float] | None:
    """Figures of the evaluation after the last epoch, None where there was none."""
    rows = logged_scalars(job.work_dir)
    evaluated = [row for row in rows if 'loss' not in row and row.get('step')]
    if not evaluated or (job.final is not None and evaluated[-1]['step'] != job.final):
        return None
    return _figures(evaluated[-1])


def tested_figures(job: Job) -> dict[str, float] | None:
    """Figures of `tools/test.py`, None where it left none."""
    paths = sorted((job.folder / 'test').glob('*/*.json'))
    return _figures(json.loads(paths[-1].read_text())) if paths else None


def retrained_figures(job: Job) -> dict[str, float] | None:
    """Figures of `tools/retrain_head.py`, None where it left none."""
    path = job.folder / ROWS
    rows = read_json_lines(path) if path.is_file() else []
    return _figures(rows[-1]['metrics']) if rows and rows[-1]['metrics'] else None


def seconds_left(job: Job) -> float | None:
    """What the log of a running job says last about the time left, in seconds."""
    if not job.log.is_file():
        return None
    with job.log.open('rb') as file:
        file.seek(max(job.log.stat().st_size - TAIL, 0))
        text = file.read().decode(errors='replace')
    found = re.findall(r'eta: (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)', text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(value or 0) for value in found[-1])
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _figures(row: dict) -> dict[str, float]:
    """The metrics of a row: their names have a prefix."""
    return {k: float(v) for k, v in row.items() if '/' in k}
