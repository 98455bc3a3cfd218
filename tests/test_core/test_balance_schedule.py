"""The schedule of the balance exponent."""

import math

import numpy as np
import pytest

from mmdet_imbalance.core.balance_schedule import BalanceSchedule

HYBRID = [(0, 0.0), (8, 0.7)]


def test_a_step_holds_until_the_next_point():
    schedule = BalanceSchedule(HYBRID)
    assert [float(schedule(t)) for t in (0, 7, 8, 100)] == [0.0, 0.0, 0.7, 0.7]


def test_times_in_an_array_give_what_they_give_alone():
    for interpolation in ('step', 'linear', 'cosine'):
        schedule = BalanceSchedule([(0, 0.1), (3, 1.4), (9, 0.5)], interpolation)
        times = np.arange(15)
        alone = [float(schedule(int(t))) for t in times]
        assert schedule(times).tolist() == alone


@pytest.mark.parametrize('interpolation', ['linear', 'cosine'])
def test_a_ramp_passes_its_points_and_rises_between(interpolation):
    schedule = BalanceSchedule([(0, 0.0), (100, 0.333), (200, 1.0)], interpolation)
    values = schedule(np.arange(300))
    assert values[[0, 100, 200, 299]].tolist() == [0.0, 0.333, 1.0, 1.0]
    assert (np.diff(values) >= 0).all()
    assert np.diff(values).max() <= 0.0201


def test_ramps_follow_their_formula_to_a_hundredth():
    times = np.arange(101)
    linear = BalanceSchedule([(0, 0.2), (100, 0.9)], 'linear')(times)
    cosine = BalanceSchedule([(0, 0.2), (100, 0.9)], 'cosine')(times)
    for t in times:
        assert linear[t] == pytest.approx(0.2 + 0.7 * t / 100, abs=0.00501)
        half_wave = (1 - math.cos(math.pi * t / 100)) / 2
        assert cosine[t] == pytest.approx(0.2 + 0.7 * half_wave, abs=0.00501)


def test_one_point_is_constant_in_every_interpolation():
    for interpolation in ('step', 'linear', 'cosine'):
        schedule = BalanceSchedule([[0, 0.5]], interpolation)
        assert schedule.is_constant
        assert schedule(np.arange(4)).tolist() == [0.5] * 4
    assert not BalanceSchedule(HYBRID).is_constant


@pytest.mark.parametrize(
    ('points', 'named'),
    [
        ([], '`schedule` must be a list'),
        (0.7, '`schedule` must be a list'),
        ({0: 0.0}, '`schedule` must be a list'),
        ('step', '`schedule` must be a list'),
        ([0.7], 'pairs'),
        ([(0, 0.0, 1)], 'pairs'),
        ([(8, 0.7)], 'begin at 0'),
        ([(0, 0.0), (8, 0.7), (4, 0.5)], 'ascending'),
        ([(0, 0.0), (0, 0.7)], 'ascending'),
        ([(0, -0.5)], '`balance_exponent`'),
        ([(0, math.inf)], '`balance_exponent`'),
        ([(0, None)], '`balance_exponent`'),
        ([(0.5, 0.1)], 'whole epochs'),
        ([(-1, 0.1)], 'whole epochs'),
    ],
)
def test_bad_schedules_are_refused(points, named):
    with pytest.raises(ValueError, match=named):
        BalanceSchedule(points)


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match=r'`interpolation`.*linaer'):
        BalanceSchedule(HYBRID, 'linaer')
