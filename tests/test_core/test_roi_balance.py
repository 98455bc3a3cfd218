"""Probabilities and choices of RoIs."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.roi_balance import (
    choose_by_probs,
    choose_equal_shares,
    iou_interval,
)
from mmdet_imbalance.functional import foreground_balanced_probs
from tests.helpers import oracles_roi_balance as oracle
from tests.helpers.oracles_resampling import chi_square, chi_square_limit


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=20)


# --- foreground-balanced probabilities -------------------------------------------
@settings(deadline=None)
@given(label_lists)
def test_probs_equal_the_formula(labels):
    probs = foreground_balanced_probs(torch.tensor(labels))
    assert probs.tolist() == pytest.approx(oracle.foreground_balanced(labels))
    assert probs.dtype == torch.float64


@settings(deadline=None)
@given(label_lists, st.integers(0, 2**31))
def test_each_class_has_equal_mass_however_labels_are_ordered_or_named(labels, seed):
    labels = torch.tensor(labels)
    probs = foreground_balanced_probs(labels)
    assert probs.sum().item() == pytest.approx(1)
    masses = [probs[labels == c].sum().item() for c in labels.unique()]
    assert masses == pytest.approx([1 / len(masses)] * len(masses))
    order = torch.randperm(len(labels), generator=seeded(seed))
    torch.testing.assert_close(foreground_balanced_probs(labels[order]), probs[order])
    torch.testing.assert_close(foreground_balanced_probs(labels * 7 + 100), probs)


def test_no_positives_give_no_probs():
    assert foreground_balanced_probs(torch.zeros(0, dtype=torch.long)).shape == (0,)
    with pytest.raises(ValueError, match='`labels`'):
        foreground_balanced_probs(torch.zeros(2, 3))


# --- draws by probability ------------------------------------------------------------
@pytest.mark.parametrize('num', [1, 2, 3])
def test_draws_are_successive_draws_without_replacement(num):
    probs = [0.5, 0.2, 0.2, 0.1]
    generator = seeded()
    drawn = Counter(
        tuple(choose_by_probs(torch.tensor(probs), num, generator).tolist())
        for _ in range(8000)
    )
    expected = oracle.successive_draws(probs, num)
    statistic, degrees = chi_square(
        [drawn[order] for order in expected], [8000 * p for p in expected.values()]
    )
    assert statistic < chi_square_limit(degrees)


@settings(deadline=None)
@given(label_lists, st.integers(0, 25), st.integers(0, 2**31))
def test_exactly_what_was_asked_and_nothing_twice(labels, num, seed):
    probs = foreground_balanced_probs(torch.tensor(labels))
    drawn = choose_by_probs(probs, num, seeded(seed)).tolist()
    assert len(drawn) == len(set(drawn)) == min(num, len(labels))


@settings(deadline=None)
@given(label_lists, st.integers(1, 25), st.integers(1, 4), st.integers(0, 2**31))
def test_a_full_group_gives_no_more(groups, num, most, seed):
    drawn = choose_by_probs(
        torch.ones(len(groups)), num, seeded(seed), torch.tensor(groups), most
    )
    given_by = Counter(groups[i] for i in drawn.tolist())
    assert all(n <= most for n in given_by.values())
    room = sum(min(groups.count(g), most) for g in set(groups))
    assert len(drawn) == min(num, room)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    choose_by_probs(torch.ones(9), 4, seeded())
    choose_equal_shares(torch.arange(9) % 2, 4, seeded())
    torch.testing.assert_close(torch.rand(4), expected)


# --- equal shares ------------------------------------------------------------------
@settings(deadline=None)
@given(label_lists, st.integers(0, 25), st.integers(0, 2**31))
def test_groups_take_turns(groups, num, seed):
    names = sorted(set(groups))
    chosen = choose_equal_shares(torch.tensor(groups), num, seeded(seed)).tolist()
    assert len(chosen) == len(set(chosen)) == min(num, len(groups))
    given_by = Counter(groups[i] for i in chosen)
    low, high = oracle.equal_shares([groups.count(g) for g in names], num)
    for name, least, most in zip(names, low, high, strict=True):
        assert least <= given_by[name] <= most


def test_members_and_odd_turns_are_chosen_by_chance():
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    generator = seeded()
    counts = torch.zeros(8)
    for _ in range(4000):
        counts[choose_equal_shares(groups, 3, generator)] += 1
    statistic, degrees = chi_square(counts.tolist(), [4000 * 3 / 8] * 8)
    assert statistic < chi_square_limit(degrees)


def test_iou_intervals_divide_the_range_evenly():
    iou = torch.tensor([0.0, 0.1, 0.17, 0.3, 0.34, 0.49, 0.5, 0.9])
    assert iou_interval(iou, 3, 0.5).tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    assert iou_interval(iou, 1, 0.5).unique().tolist() == [0]
