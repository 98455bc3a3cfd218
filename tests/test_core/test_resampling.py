"""Closed forms of resampling, before any random draw."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.resampling import ImagesByClass, without_ignored
from mmdet_imbalance.functional import repeat_factors, soft_balance_class_probs
from tests.helpers import oracles_resampling as oracle

COUNTS = [1200, 300, 0, 45, 1, 7]
IMAGES = [[0, 0, 1], [], [2], [0], [1, 2, 0], [4, 4, 4], [0, 4]]


def rows(image_labels):
    ptr = np.cumsum([0] + [len(labels) for labels in image_labels])
    return ptr, np.array([c for labels in image_labels for c in labels], np.int64)


image_lists = st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=12)


# --- soft balance ------------------------------------------------------------------
@pytest.mark.parametrize('exponent', [0.0, 0.25, 0.5, 0.7, 1.0, 1.6, 3.0])
def test_class_probs_equal_the_formula(exponent):
    probs = soft_balance_class_probs(torch.tensor(COUNTS), exponent)
    expected = torch.tensor(oracle.soft_balance(COUNTS, exponent), dtype=torch.float64)
    torch.testing.assert_close(probs, expected, rtol=1e-12, atol=0)


def test_exponent_0_is_natural_and_1_is_class_aware():
    counts = torch.tensor([8, 4, 0, 4])
    natural = soft_balance_class_probs(counts, 0.0)
    uniform = soft_balance_class_probs(counts, 1.0)
    torch.testing.assert_close(natural, counts.double() / 16)
    torch.testing.assert_close(uniform, torch.tensor([1, 1, 0, 1]).double() / 3)


def test_over_balance_turns_the_order_round():
    probs = soft_balance_class_probs(torch.tensor([100, 10, 1]), 2.0)
    assert probs[0] < probs[1] < probs[2]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 10**7), min_size=2, max_size=9).filter(any),
    st.floats(0, 2),
    st.randoms(use_true_random=False),
)
def test_permuting_classes_permutes_probs_and_scale_is_invisible(counts, lam, random):
    order = list(range(len(counts)))
    random.shuffle(order)
    counts = torch.tensor(counts)
    probs = soft_balance_class_probs(counts, lam)
    torch.testing.assert_close(
        probs[order], soft_balance_class_probs(counts[order], lam)
    )
    torch.testing.assert_close(probs, soft_balance_class_probs(counts * 3, lam))
    assert probs.sum() == pytest.approx(1.0)
    assert ((probs == 0) == (counts == 0)).all() or lam > 1


def test_large_exponents_and_counts_stay_finite():
    probs = soft_balance_class_probs(torch.tensor([10**12, 1, 0]), 200.0)
    torch.testing.assert_close(probs, torch.tensor([0.0, 1.0, 0.0]).double())


@pytest.mark.parametrize(
    ('counts', 'exponent', 'named'),
    [
        ([0, 0], 1.0, 'zero for every class'),
        ([3, -1], 1.0, '`img_count`'),
        ([3.0, math.nan], 1.0, '`img_count`'),
        ([[3]], 1.0, 'shape'),
        ([3, 1], -0.1, '`balance_exponent`'),
        ([3, 1], math.nan, '`balance_exponent`'),
        ([3, 1], 'much', '`balance_exponent`'),
    ],
)
def test_bad_counts_and_exponents_are_refused(counts, exponent, named):
    with pytest.raises(ValueError, match=named):
        soft_balance_class_probs(torch.tensor(counts), exponent)


@settings(deadline=None)
@given(image_lists.filter(lambda lists: any(lists)), st.floats(0.05, 1.5))
def test_image_probs_equal_the_loop(image_labels, exponent):
    by_class = ImagesByClass.from_labels(*rows(image_labels), num_classes=6)
    expected = oracle.image_probs(image_labels, 6, exponent)
    np.testing.assert_allclose(by_class.image_probs(exponent), expected, atol=1e-12)


def test_exponent_0_shows_every_image_equally():
    by_class = ImagesByClass.from_labels(*rows(IMAGES), num_classes=5)
    np.testing.assert_allclose(by_class.image_probs(0), np.full(7, 1 / 7))


# --- the index by class -----------------------------------------------------------
@settings(deadline=None)
@given(image_lists)
def test_images_by_class_equal_the_loop(image_labels):
    by_class = ImagesByClass.from_labels(*rows(image_labels), num_classes=6)
    for c in range(6):
        part = slice(*by_class.class_ptr[c : c + 2])
        expected = [i for i, labels in enumerate(image_labels) if c in labels]
        assert by_class.images[part].tolist() == expected
        assert by_class.instances[part].tolist() == [
            image_labels[i].count(c) for i in expected
        ]
    assert by_class.num_images == len(image_labels)


def test_seen_counts_images_and_boxes():
    by_class = ImagesByClass.from_labels(*rows(IMAGES), num_classes=5)
    images, boxes = by_class.seen(np.array([1, 5, 0, 0, 0, 2, 1]))
    assert images.tolist() == [2, 1, 0, 0, 3]
    assert boxes.tolist() == [3, 1, 0, 0, 7]


def test_more_classes_than_16_bits_hold():
    by_class = ImagesByClass.from_labels(
        *rows([[70000], [3, 70000]]), num_classes=70001
    )
    assert by_class.img_count[[3, 70000]].tolist() == [1, 2]


def test_ignored_boxes_are_no_presence():
    ptr, labels = rows([[0, 1], [1], []])
    ptr, labels = without_ignored(ptr, labels, np.array([True, False, True]))
    assert ptr.tolist() == [0, 1, 1, 1]
    assert labels.tolist() == [1]


@pytest.mark.parametrize('wrong', [-1, 5])
def test_a_label_outside_the_classes_names_its_image(wrong):
    with pytest.raises(ValueError, match=rf'label {wrong} of image 2 .* 5 classes'):
        ImagesByClass.from_labels(*rows([[0, 1], [], [4, wrong]]), num_classes=5)


# --- repeat factors -----------------------------------------------------------------
@settings(deadline=None)
@given(image_lists, st.floats(0, 1))
def test_repeat_factors_equal_the_loop(image_labels, threshold):
    num = len(image_labels)
    freq = [sum(c in labels for labels in image_labels) / num for c in range(6)]
    factors = repeat_factors(image_labels, torch.tensor(freq).double(), threshold)
    expected = [oracle.repeat_factor(one, freq, threshold) for one in image_labels]
    assert factors.tolist() == pytest.approx(expected)


def test_images_without_labels_keep_their_place():
    freq = torch.tensor([0.01, 1.0])
    factors = repeat_factors([[], [0], [], [1], []], freq, 0.04)
    assert factors.tolist() == pytest.approx([1, 2, 1, 1, 1])
    assert len(repeat_factors([], freq, 0.04)) == 0


def test_repeat_factors_take_sets_and_tensors():
    freq = torch.tensor([0.01, 1.0])
    factors = repeat_factors([{0, 1}, torch.tensor([1, 0, 0])], freq, 0.04)
    assert factors.tolist() == pytest.approx([2, 2])


@pytest.mark.parametrize(
    ('labels', 'freq', 'threshold', 'named'),
    [
        ([[2]], [0.5, 0.5], 0.1, 'label 2 of image 0'),
        ([[1]], [0.5, 0.0], 0.1, 'class 1 is 0'),
        ([[1]], [0.5, 1.5], 0.1, '`img_freq`'),
        ([[1]], [0.5, 0.5], 10, '`oversample_thr`'),
    ],
)
def test_bad_repeat_factor_input_is_refused(labels, freq, threshold, named):
    with pytest.raises(ValueError, match=named):
        repeat_factors(labels, torch.tensor(freq), threshold)
