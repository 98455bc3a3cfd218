"""What a choice is worth on images that it was not made on.

A strength that is chosen and reported on the same images is reported too high. Here the
images are halved at random, several times; in each half a trial is chosen, and the
other half says what it gains over doing nothing.

Shapes: T trials (the first one does nothing), H halves: halves 2k and 2k + 1 are one
splitting. Deviations: none (this is no method of a paper).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.evaluator import Evaluator


def random_halves(num_images: int, num_splits: int, seed: int) -> list[np.ndarray]:
    """Positions of the images of each half, ascending, 2 x `num_splits` of them."""
    rng = np.random.default_rng(seed)
    halves = []
    for _ in range(num_splits):
        order = rng.permutation(num_images)
        halves += [np.sort(order[: num_images // 2]), np.sort(order[num_images // 2 :])]
    return halves


class PartsEvaluator(Evaluator):
    """The host's evaluator, which also judges parts of the images by themselves.

    The model runs once: a part is evaluated from the results of its images.

    Args:
        metrics: metrics that were built already.
        parts: positions of the images of each part, in the order of the data loader.

    Attributes:
        part_figures: figures of each part, after `evaluate`.

    Raises:
        ValueError: a metric that counts the images of its annotation file, evaluated or
            not, and cannot be told to leave the others out.
    """

    def __init__(self, metrics: Sequence, parts: Sequence[np.ndarray]) -> None:
        super().__init__(list(metrics))
        for metric in self.metrics:
            if hasattr(metric, 'only_evaluated_images'):
                metric.only_evaluated_images = True
            elif any(
                getattr(metric, name, None) is not None
                for name in ('ann_file', '_coco_api')
            ):
                raise ValueError(
                    f'{type(metric).__name__} judges all images of its annotation '
                    'file at once; use mmdet_imbalance.ImbalanceCocoMetric'
                )
        self.parts = parts
        self.part_figures: list[dict] = []

    def evaluate(self, size: int) -> dict:
        """Figures of all images; those of the parts are kept."""
        results = [list(metric.results) for metric in self.metrics]
        figures = super().evaluate(size)
        tables = [getattr(metric, 'classwise', None) for metric in self.metrics]
        self.part_figures = []
        for part in self.parts:
            for metric, rows in zip(self.metrics, results, strict=True):
                metric.results = [rows[i] for i in part]
                if hasattr(metric, 'classwise'):
                    # One table of all classes a trial is enough.
                    metric.classwise = False
            self.part_figures.append(super().evaluate(len(part)))
        for metric, table in zip(self.metrics, tables, strict=True):
            if table is not None:
                metric.classwise = table
        return figures


@dataclass(frozen=True)
class HeldOutGain:
    """What choosing among some trials is worth.

    Attributes:
        chosen: index of the trial chosen in each half, shape (H,).
        on_chosen: mean gain where it was chosen, which is too high.
        gain: mean gain on the other halves, by figure; nan where undefined.
        spread: standard deviation over splittings of the mean of both directions.
    """

    chosen: np.ndarray
    on_chosen: float
    gain: dict[str, float]
    spread: dict[str, float]


def held_out_gain(
    figures: Mapping[str, np.ndarray], key: str, trials: Sequence[int]
) -> HeldOutGain:
    """Choose in each half, judge on the other one.

    Args:
        figures: each figure by trial and half, shape (T, H); -1 where it is an average
            over nothing.
        key: the figure that the choice makes large.
        trials: the trials to choose from; trial 0, which does nothing, is always one of
            them and wins a draw.
    """
    trials = np.array([0, *(t for t in trials if t)])
    chosen = trials[np.argmax(figures[key][trials], axis=0)]
    num_halves = len(chosen)
    half = np.arange(num_halves)
    other = half ^ 1
    gain, spread = {}, {}
    for name, values in figures.items():
        values = np.where(values == -1, np.nan, values)
        moved = values[chosen, other] - values[0, other]
        pairs = moved.reshape(-1, 2)
        known = ~np.isnan(pairs).all(axis=1)
        means = np.array([np.nanmean(pair) for pair in pairs[known]])
        gain[name] = float(means.mean()) if len(means) else float('nan')
        spread[name] = float(means.std(ddof=1)) if len(means) > 1 else float('nan')
    on_chosen = figures[key][chosen, half] - figures[key][0, half]
    return HeldOutGain(chosen, float(on_chosen.mean()), gain, spread)
