"""Is one detector better than another, or is it noise?

Two kinds of noise: which images were chosen (bootstrap over images, the same drawing
for all detectors, so that hard images do not blur the difference) and which seed a
training had (Welch's t interval over runs, where there are several).

Shapes: B drawings, C classes, R runs. Deviations: none (this is no method of a paper).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmdet_imbalance.evaluation.bootstrap import WeightedAP, draw_images
from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth
from mmdet_imbalance.evaluation.coco_ap import COCO_IOU_THRS
from mmdet_imbalance.evaluation.freq_groups import GROUPS


@dataclass(frozen=True)
class Difference:
    """A figure of two detectors.

    Attributes:
        figure: its name.
        baseline, other: mean over the runs.
        image_interval: of `other - baseline` over images.
        seed_interval: of the same over runs; None with fewer than two on a side.
    """

    figure: str
    baseline: float
    other: float
    image_interval: tuple[float, float]
    seed_interval: tuple[float, float] | None

    @property
    def difference(self) -> float:
        """`other - baseline`."""
        return self.other - self.baseline

    @property
    def verdict(self) -> str:
        """'better', 'worse', 'within noise', or 'undefined' without ground truth."""
        intervals = [self.image_interval]
        if self.seed_interval is not None:
            intervals.append(self.seed_interval)
        if np.isnan(intervals).any():
            return 'undefined'
        if all(low > 0 for low, _ in intervals):
            return 'better'
        if all(high < 0 for _, high in intervals):
            return 'worse'
        return 'within noise'


class Comparison:
    """Figures of several detectors over the same images.

    Args:
        gt: ground truth.
        runs: detections of the runs (seeds) of each detector, by name; the first
            detector is the baseline.
        num_drawings: number B of bootstrap drawings.
        seed: of the drawings.
        confidence: of the intervals, in (0, 1).
        classwise: compare the AP of each class, too.
    """

    def __init__(
        self,
        gt: GroundTruth,
        runs: Mapping[str, Sequence[Detections]],
        num_drawings: int = 1000,
        seed: int = 0,
        confidence: float = 0.95,
        classwise: bool = False,
    ) -> None:
        if len(runs) < 2:
            raise ValueError(
                f'`runs` must hold at least two detectors, got {len(runs)}'
            )
        if not 0 < confidence < 1:
            raise ValueError(f'`confidence` must be in (0, 1), got {confidence}')
        if num_drawings < 20:
            raise ValueError(f'`num_drawings` must be at least 20, got {num_drawings}')
        self.names = list(runs)
        self.confidence = confidence
        num_images = len(gt.images)
        drawings = draw_images(num_images, num_drawings, seed)
        # The first row is the data as they are.
        weights = np.concatenate([np.ones((1, num_images), np.int64), drawings])
        self._figures = {
            name: [
                _figures(WeightedAP(gt, run)(weights), gt, classwise) for run in some
            ]
            for name, some in runs.items()
        }

    def differences(self, name: str) -> list[Difference]:
        """Every figure of a detector against the baseline."""
        baseline, other = self._figures[self.names[0]], self._figures[name]
        return [
            self._difference(
                figure,
                np.stack([run[figure] for run in baseline]),
                np.stack([run[figure] for run in other]),
            )
            for figure in baseline[0]
        ]

    def _difference(self, figure, baseline, other) -> Difference:
        """`baseline`, `other`: shape (R, 1 + B)."""
        drawn = other[:, 1:].mean(axis=0) - baseline[:, 1:].mean(axis=0)
        drawn = drawn[~np.isnan(drawn)]
        tail = 50 * (1 - self.confidence)
        interval = (
            np.percentile(drawn, [tail, 100 - tail])
            if len(drawn)
            else np.full(2, np.nan)
        )
        return Difference(
            figure=figure,
            baseline=float(baseline[:, 0].mean()),
            other=float(other[:, 0].mean()),
            image_interval=(float(interval[0]), float(interval[1])),
            seed_interval=welch_interval(baseline[:, 0], other[:, 0], self.confidence),
        )


def welch_interval(
    baseline: np.ndarray, other: np.ndarray, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the difference of two means with unequal variances.

    Welch, "The generalization of Student's problem", Biometrika 1947.

    Args:
        baseline: one figure a run, shape (R,).
        other: the same of the other detector.
        confidence: in (0, 1).

    Returns:
        Bounds of mean(other) - mean(baseline); None with fewer than two runs a side.
    """
    if len(baseline) < 2 or len(other) < 2:
        return None
    from scipy.stats import t

    errors = [values.var(ddof=1) / len(values) for values in (baseline, other)]
    difference = float(other.mean() - baseline.mean())
    if not sum(errors) > 0:
        return difference, difference
    freedom = sum(errors) ** 2 / sum(
        error**2 / (len(values) - 1)
        for error, values in zip(errors, (baseline, other), strict=True)
    )
    half = float(t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(sum(errors)))
    return difference - half, difference + half


def check_same_ground_truth(one: GroundTruth, other: GroundTruth, where: str) -> None:
    """Raise ValueError where results were evaluated on other images or boxes."""
    if one.class_names != other.class_names:
        raise ValueError(f'{where}: results of other classes cannot be compared')
    ids, other_ids = one.image_ids(), other.image_ids()
    if not np.array_equal(ids, other_ids):
        raise ValueError(
            f'{where}: results of other images cannot be compared ({len(ids)} and '
            f'{len(other_ids)} images, {len(np.intersect1d(ids, other_ids))} shared)'
        )
    same = (
        np.array_equal(one.labels, other.labels)
        and np.array_equal(one.image_index, other.image_index)
        and np.allclose(one.boxes, other.boxes)
        and np.array_equal(one.is_crowd, other.is_crowd)
        and np.array_equal(one.is_group_of, other.is_group_of)
    )
    if not same:
        raise ValueError(
            f'{where}: the ground truth has other boxes, or other ones are crowds'
        )


def _figures(ap: np.ndarray, gt: GroundTruth, classwise: bool) -> dict:
    """Figures by name, shape (1 + B,) each, of AP with shape (1 + B, T, C)."""
    figures = {'AP': _nanmean(ap)}
    for name, thr in (('AP50', 0.5), ('AP75', 0.75)):
        figures[name] = _nanmean(ap[:, np.isclose(COCO_IOU_THRS, thr)])
    if gt.freq_group is not None:
        for group in GROUPS:
            figures[f'AP{group}'] = _nanmean(ap[:, :, gt.freq_group == group])
    if classwise:
        for label, name in enumerate(gt.class_names):
            figures[f'AP {name}'] = _nanmean(ap[:, :, label : label + 1])
    return figures


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over all axes but the first; nan where nothing is defined."""
    defined = ~np.isnan(values)
    num = defined.sum(axis=(1, 2))
    total = np.where(defined, values, 0.0).sum(axis=(1, 2))
    return np.divide(total, num, out=np.full(len(values), np.nan), where=num > 0)
