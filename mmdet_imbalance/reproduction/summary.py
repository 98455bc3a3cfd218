"""Figures of a table's rows, and whether they differ from the baseline.

Shapes: S seeds. Intervals of a difference: over images by bootstrap, as
`evaluation/comparison.py` has it, and over seeds by Student's t interval of the
differences seed by seed, because runs of one seed share their stock checkpoint or their
initial weights and order of images.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from mmdet_imbalance.evaluation.comparison import (
    Comparison,
    Difference,
    check_same_ground_truth,
)
from mmdet_imbalance.evaluation.results_file import read_results_pair
from mmdet_imbalance.reproduction.jobs import Job
from mmdet_imbalance.reproduction.plan import Plan
from mmdet_imbalance.reproduction.table import Row, Setting

#: Detections beside the result of a job.
RESULTS_FILE = 'results.bbox.json'
NO_INTERVAL = (float('nan'), float('nan'))


@dataclass
class RowSummary:
    """A row in a setting.

    Attributes:
        row: of the table.
        values: by metric and seed, in [0, 1]; nan where the metric is undefined.
        differences: to the baseline by metric; empty for the baseline.
        failures: last error line and log by seed.
        open_seeds: seeds that were neither finished nor failed.
        seconds: mean time of a run.
    """

    row: Row
    values: dict[str, dict[int, float]]
    differences: dict[str, Difference] = field(default_factory=dict)
    failures: dict[int, tuple[str, str]] = field(default_factory=dict)
    open_seeds: list[int] = field(default_factory=list)
    seconds: float = float('nan')

    @property
    def seeds(self) -> list[int]:
        """Seeds with a result."""
        return list(next(iter(self.values.values()), {}))

    def mean(self, metric: str) -> float:
        """Mean over the seeds; nan where one is undefined or there are none."""
        values = list(self.values[metric].values())
        return float(np.mean(values)) if values else float('nan')

    def spread(self, metric: str) -> float:
        """Standard deviation over the seeds; nan with fewer than two."""
        values = list(self.values[metric].values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float('nan')


def summarise(
    plan: Plan, num_drawings: int, confidence: float
) -> list[tuple[Setting, list[RowSummary]]]:
    """All rows of all settings.

    Args:
        plan: of the table.
        num_drawings: of the bootstrap over images; 0 for none.
        confidence: of the intervals, in (0, 1).
    """
    table = plan.request.table
    found = []
    for setting in plan.settings:
        jobs = {
            row.name: plan.jobs[setting.name, row.name]
            for row in table.rows_in(setting)
        }
        rows = [
            _row_summary(row, setting, jobs[row.name]) for row in table.rows_in(setting)
        ]
        _compare(rows, jobs, table, num_drawings, confidence)
        found.append((setting, rows))
    return found


def verdict(difference: Difference, num_seeds: int) -> str:
    """'better', 'worse', 'within noise', with what is lacking to say so."""
    if not np.isfinite(difference.difference):
        return 'undefined'
    if difference.seed_interval is None and np.isnan(difference.image_interval[0]):
        return 'one seed: noise unknown'
    if np.isnan(difference.image_interval[0]):
        low, high = difference.seed_interval
        return 'better' if low > 0 else 'worse' if high < 0 else 'within noise'
    if num_seeds < 2 and difference.verdict != 'within noise':
        return f'{difference.verdict} on these images, one seed'
    return difference.verdict


def paired_interval(
    baseline: Sequence[float], other: Sequence[float], confidence: float
) -> tuple[float, float] | None:
    """Student's t interval of the mean of `other - baseline`, pair by pair.

    Args:
        baseline: one figure a seed, shape (S,).
        other: the same of the other row.
        confidence: in (0, 1).

    Returns:
        Bounds; None with fewer than two seeds.
    """
    moved = np.asarray(other, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    if len(moved) < 2:
        return None
    from scipy.stats import t

    error = moved.std(ddof=1) / np.sqrt(len(moved))
    half = float(t.ppf(0.5 + confidence / 2, len(moved) - 1) * error)
    return float(moved.mean()) - half, float(moved.mean()) + half


def _row_summary(row: Row, setting: Setting, jobs: Sequence[Job]) -> RowSummary:
    summary = RowSummary(row, {key: {} for key in setting.metrics})
    seconds = []
    for job in jobs:
        result = job.result()
        if result is None:
            failure = job.failure()
            if failure is None:
                summary.open_seeds.append(job.seed)
            else:
                summary.failures[job.seed] = (failure['line'], failure['log'])
            continue
        seconds.append(result['seconds'])
        for key in setting.metrics:
            value = result['metrics'].get(key, -1.0)
            # -1 is the metrics' average over nothing.
            summary.values[key][job.seed] = value if value >= 0 else float('nan')
    if seconds:
        summary.seconds = float(np.mean(seconds))
    return summary


def _compare(rows, jobs, table, num_drawings, confidence) -> None:
    """Fill in `differences`."""
    by_name = {row.row.name: row for row in rows}
    # One bootstrap for all rows with the same seeds and the same row to compare with:
    # that one is drawn once.
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for row in rows:
        against = table.against(row.row)
        if against not in by_name:
            continue
        there = by_name[against].seeds
        seeds = tuple(seed for seed in row.seeds if seed in there)
        if seeds:
            groups.setdefault((against, seeds), []).append(row.row.name)
    for (against, seeds), names in groups.items():
        chosen = {
            name: [_of_seed(jobs[name], seed) for seed in seeds]
            for name in (against, *names)
        }
        intervals = _image_intervals(chosen, num_drawings, confidence)
        for name in names:
            row = by_name[name]
            for key in row.values:
                ours = [row.values[key][seed] for seed in seeds]
                theirs = [by_name[against].values[key][seed] for seed in seeds]
                row.differences[key] = Difference(
                    figure=key,
                    baseline=float(np.mean(theirs)),
                    other=float(np.mean(ours)),
                    image_interval=intervals.get(name, {}).get(key, NO_INTERVAL),
                    seed_interval=paired_interval(theirs, ours, confidence),
                )


def _of_seed(jobs: Sequence[Job], seed: int) -> Job:
    return next(job for job in jobs if job.seed == seed)


def _image_intervals(
    runs: Mapping[str, Sequence[Job]], num_drawings: int, confidence: float
) -> dict[str, Mapping[str, tuple[float, float]]]:
    """Intervals over images by row and metric.

    Args:
        runs: jobs by row, the baseline first.
        num_drawings: 0 for none.
        confidence: in (0, 1).

    Returns:
        Without the rows that left no detections, or were evaluated on other classes:
        they have no images in common with the baseline.
    """
    baseline = next(iter(runs))
    gt, detections = None, {}
    for name, jobs in runs.items():
        paths = [job.folder / RESULTS_FILE for job in jobs]
        if num_drawings and all(path.is_file() for path in paths):
            pairs = [read_results_pair(path) for path in paths]
            gt = gt or pairs[0][0]
            with suppress(ValueError):
                for path, (own, _) in zip(paths, pairs, strict=True):
                    check_same_ground_truth(gt, own, str(path))
                detections[name] = [found for _, found in pairs]
        if baseline not in detections:
            return {}
    if len(detections) < 2:
        return {}
    comparison = Comparison(gt, detections, num_drawings, confidence=confidence)
    return {
        name: {
            f'coco/{item.figure}': item.image_interval
            for item in comparison.differences(name)
        }
        for name in comparison.names[1:]
    }
