"""The balance exponent over the training: hybrid training as a list of points.

Peng et al., CVPR 2020, https://arxiv.org/abs/2005.08455, train without balance first,
so that every image contributes, and with soft balance afterwards, so that the tail is
seen.

Shapes: T times (epochs or iterations).
Deviations: the points that the paper used could not be read; they are an argument.
The ramps between two points are ours.
"""

from collections.abc import Sequence
from numbers import Integral

import numpy as np

from mmdet_imbalance.core.resampling import check_balance_exponent

INTERPOLATIONS = ('step', 'linear', 'cosine')
# A ramp moves in steps of this size: the stream draws each level at one go.
RAMP_STEP = 0.01


class BalanceSchedule:
    """Balance exponent as a function of the epoch or the iteration.

    Args:
        points: pairs (time, balance exponent), time ascending from 0.
        interpolation: between two points, 'step' holds the earlier exponent, 'linear'
            and 'cosine' lead smoothly to the later one (in steps of 0.01).  After the
            last point its exponent holds.

    Raises:
        ValueError: not a list of pairs, not ascending, not beginning at 0, a negative
            exponent, an unknown interpolation.
    """

    def __init__(
        self, points: Sequence[tuple[int, float]], interpolation: str = 'step'
    ) -> None:
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f'`interpolation` must be one of {INTERPOLATIONS}, got '
                f'{interpolation!r}'
            )
        self.interpolation = interpolation
        self.points = tuple(_check_point(point, points) for point in _listed(points))
        self.times = np.array([time for time, _ in self.points], np.int64)
        self.exponents = np.array([exponent for _, exponent in self.points])
        if self.times[0] != 0:
            raise ValueError(
                f'`schedule` must begin at 0, got {self.points[0]} first: write what '
                'holds before it'
            )
        if (np.diff(self.times) <= 0).any():
            raise ValueError(
                '`schedule` must be sorted by strictly ascending times, got '
                f'{[int(time) for time in self.times]}'
            )

    @property
    def is_constant(self) -> bool:
        """Whether the exponent never changes."""
        return bool((self.exponents == self.exponents[0]).all())

    def __call__(self, time: int | np.ndarray) -> np.ndarray:
        """Exponent at each time, the shape of `time`."""
        time = np.asarray(time)
        if self.interpolation == 'step':
            return self.exponents[np.searchsorted(self.times, time, side='right') - 1]
        # Fraction of the way to the next point.
        index = np.clip(
            np.searchsorted(self.times, time, side='right') - 1,
            0,
            max(len(self.times) - 2, 0),
        )
        after = np.minimum(index + 1, len(self.times) - 1)
        gap = np.maximum(self.times[after] - self.times[index], 1)
        way = np.clip((time - self.times[index]) / gap, 0, 1)
        if self.interpolation == 'cosine':
            way = (1 - np.cos(np.pi * way)) / 2
        low, high = self.exponents[index], self.exponents[after]
        level = np.round((low + way * (high - low)) / RAMP_STEP) * RAMP_STEP
        # The points themselves are exact, and nothing between lies beyond them.
        level = np.clip(level, np.minimum(low, high), np.maximum(low, high))
        return np.where(way == 0, low, np.where(way == 1, high, level))

    def __repr__(self) -> str:
        return f'{type(self).__name__}({list(self.points)}, {self.interpolation!r})'


def _listed(points: Sequence) -> list:
    if isinstance(points, (str, bytes, dict)) or not hasattr(points, '__iter__'):
        points = []
    listed = list(points)
    if not listed:
        raise ValueError(
            '`schedule` must be a list of (epoch or iteration, balance exponent), for '
            'example [(0, 0.0), (8, 0.7)]'
        )
    return listed


def _check_point(point: Sequence, points: Sequence) -> tuple[int, float]:
    try:
        time, exponent = point
    except (TypeError, ValueError):
        raise ValueError(
            '`schedule` must be a list of pairs (epoch or iteration, balance '
            f'exponent), got {point!r} in {points!r}'
        ) from None
    if not isinstance(time, Integral) or isinstance(time, bool) or time < 0:
        raise ValueError(
            '`schedule` counts whole epochs or iterations from 0, got the time '
            f'{time!r} in {point!r}'
        )
    return int(time), check_balance_exponent(exponent)
