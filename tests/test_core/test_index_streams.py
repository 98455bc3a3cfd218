"""Streams of image indices: distribution, no repetition, determinism."""

from collections import Counter

import numpy as np
import pytest

from mmdet_imbalance.core.index_streams import (
    draw_classes,
    draw_images,
    repeat_factor_length,
    repeat_factor_stream,
    soft_balance_stream,
    stream_generator,
)
from mmdet_imbalance.core.resampling import ImagesByClass
from tests.helpers import oracles_resampling as oracle


def by_class_of(image_labels, num_classes):
    ptr = np.cumsum([0] + [len(labels) for labels in image_labels])
    flat = np.array([c for labels in image_labels for c in labels], np.int64)
    return ImagesByClass.from_labels(ptr, flat, num_classes)


def long_tail(num_images=400, num_classes=8, seed=3):
    """Zipf classes, a class without images (the last) and images without labels."""
    generator = np.random.default_rng(seed)
    probs = 1 / np.arange(1, num_classes) ** 1.5
    probs /= probs.sum()
    return [
        generator.choice(
            num_classes - 1, size=generator.integers(0, 4), p=probs
        ).tolist()
        for _ in range(num_images)
    ]


@pytest.fixture(scope='module')
def labels():
    return long_tail()


@pytest.fixture(scope='module')
def by_class(labels):
    return by_class_of(labels, 8)


@pytest.mark.parametrize('exponent', [0.25, 0.7, 1.0, 1.5])
def test_images_are_drawn_with_their_closed_form_probability(
    by_class, labels, exponent
):
    expected = 0
    counts = np.zeros(400)
    # Draws without repetition vary less than independent ones, so the statistic is
    # judged from above only; single draws of an epoch are judged below.
    for epoch in range(60):
        stream = soft_balance_stream(by_class, exponent, stream_generator(0, epoch))
        counts += np.bincount(stream, minlength=400)
        expected += 400
    probs = np.array(oracle.image_probs(labels, 8, exponent))
    statistic, degrees = oracle.chi_square(counts, expected * probs)
    assert statistic < oracle.chi_square_limit(degrees)


@pytest.mark.parametrize('entry', [0, 7, 399])
def test_each_single_entry_has_the_closed_form_probability(by_class, labels, entry):
    counts = np.zeros(400)
    for epoch in range(3000):
        stream = soft_balance_stream(by_class, 0.7, stream_generator(1, epoch))
        counts[stream[entry]] += 1
    probs = np.array(oracle.image_probs(labels, 8, 0.7))
    # Pool images that are expected less than five times, as the test demands.
    order = np.argsort(probs)
    pools = np.cumsum(probs[order]) * 3000 // 8
    pooled = [np.bincount(pools.astype(int), weights=x[order]) for x in (counts, probs)]
    statistic, degrees = oracle.chi_square(pooled[0], 3000 * pooled[1])
    assert statistic < oracle.chi_square_limit(degrees)


def test_a_class_without_images_and_an_image_without_labels_never_come(
    by_class, labels
):
    empty = [i for i, one in enumerate(labels) if not one]
    assert empty
    drawn = set()
    for epoch in range(20):
        drawn |= set(soft_balance_stream(by_class, 0.3, stream_generator(0, epoch)))
    assert not drawn & set(empty)


def test_exponent_0_shows_every_image_once(by_class):
    first = soft_balance_stream(by_class, 0.0, stream_generator(0, 0))
    second = soft_balance_stream(by_class, 0.0, stream_generator(0, 1))
    assert sorted(first) == list(range(400)) == sorted(second)
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize('size', [1, 2, 3, 10, 57])
@pytest.mark.parametrize('times', [1, 2, 4, 9, 10, 11, 28, 30, 113])
def test_no_image_of_a_class_comes_again_before_all_came(size, times):
    # A second class, drawn in between, must not disturb the passes of the first.
    by_class = by_class_of([[0]] * size + [[1]] * 5, 2)
    classes = np.array([0, 1] * times, np.int32)
    drawn = draw_images(by_class, classes, np.random.default_rng(0))
    for c, images in ((0, range(size)), (1, range(size, size + 5))):
        of_class = drawn[classes == c].tolist()
        assert set(of_class) <= set(images)
        for start in range(0, times, len(images)):
            one_pass = of_class[start : start + len(images)]
            assert len(set(one_pass)) == len(one_pass)


@pytest.mark.parametrize('times', [2, 3, 4, 5])
def test_every_order_of_a_class_is_equally_likely(times):
    """Fewer than half of the images (rejection), more, and more than a pass."""
    by_class = by_class_of([[0]] * 4, 1)
    orders = Counter(
        tuple(draw_images(by_class, np.zeros(times, int), np.random.default_rng(seed)))
        for seed in range(6000)
    )
    cells = {2: 12, 3: 24, 4: 24, 5: 96}[times]
    assert len(orders) == cells
    statistic, degrees = oracle.chi_square(orders.values(), [6000 / cells] * cells)
    assert statistic < oracle.chi_square_limit(degrees)


def test_rejection_is_uniform_over_ordered_choices():
    by_class = by_class_of([[0]] * 9, 1)
    orders = Counter(
        tuple(draw_images(by_class, np.zeros(3, int), np.random.default_rng(seed)))
        for seed in range(10000)
    )
    assert len(orders) == 9 * 8 * 7
    statistic, degrees = oracle.chi_square(orders.values(), [10000 / 504] * 504)
    assert statistic < oracle.chi_square_limit(degrees)


def test_classes_without_probability_are_never_drawn():
    drawn = draw_classes(
        np.array([0.0, 0.3, 0.0, 0.7, 0.0]), 5000, np.random.default_rng(0)
    )
    counts = np.bincount(drawn, minlength=5)
    assert counts[[0, 2, 4]].sum() == 0
    statistic, degrees = oracle.chi_square(counts, [0, 1500, 0, 3500, 0])
    assert statistic < oracle.chi_square_limit(degrees)


def test_exponents_may_vary_within_an_epoch(by_class, labels):
    exponents = np.repeat([0.0, 1.0], 200)
    counts = np.zeros(400)
    for epoch in range(60):
        stream = soft_balance_stream(by_class, exponents, stream_generator(0, epoch))
        assert len(set(stream[:200].tolist())) == 200
        counts += np.bincount(stream[200:], minlength=400)
    probs = np.array(oracle.image_probs(labels, 8, 1.0))
    statistic, degrees = oracle.chi_square(counts, 60 * 200 * probs)
    assert statistic < oracle.chi_square_limit(degrees)


@pytest.mark.parametrize('exponent', [0.0, 0.7, 1.3])
def test_same_seed_and_epoch_give_the_same_stream(by_class, exponent):
    def stream(seed, epoch):
        generator = stream_generator(seed, epoch)
        return soft_balance_stream(by_class, exponent, generator).tolist()

    assert stream(5, 2) == stream(5, 2)
    assert stream(5, 2) != stream(5, 3)
    assert stream(5, 2) != stream(6, 2)
    # Not the sum of the two: that would give neighbours in seed each other's epochs.
    assert stream(5, 3) != stream(6, 2)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match='`seed`'):
        stream_generator(-1, 0)


# --- repeat factors -------------------------------------------------------------------
def test_images_come_as_often_as_their_factor_says():
    factors = np.random.default_rng(0).uniform(1, 3, 300) ** 1.2
    factors[::4] = 1.0
    total = np.zeros(300)
    for epoch in range(2000):
        copies = np.bincount(
            repeat_factor_stream(factors, stream_generator(0, epoch)), minlength=300
        )
        assert (copies >= np.floor(factors)).all()
        assert (copies > np.ceil(factors)).sum() <= 1
        total += copies
    # One entry in 300 may be shown once more to keep the length.
    spread = np.sqrt(0.25 / 2000)
    assert np.abs(total / 2000 - factors).max() < 5 * spread + 2 * 3 / factors.sum()
    assert np.abs((total / 2000 - factors).mean()) < 1 / 300


def test_rounding_is_drawn_anew_each_epoch():
    factors = np.full(50, 1.5)
    rounded = {
        tuple(np.bincount(repeat_factor_stream(factors, stream_generator(0, epoch))))
        for epoch in range(5)
    }
    assert len(rounded) == 5


@pytest.mark.parametrize('factors', [[1.0], [1.0, 1.0], [1.3, 1.1, 2.7], [1.25] * 4])
def test_the_length_never_varies(factors):
    factors = np.array(factors)
    lengths = {
        len(repeat_factor_stream(factors, stream_generator(seed, 0)))
        for seed in range(50)
    }
    assert lengths == {repeat_factor_length(factors)} == {int(np.ceil(factors.sum()))}


def test_factors_of_1_are_a_plain_shuffle():
    stream = repeat_factor_stream(np.ones(30), stream_generator(0, 0))
    assert sorted(stream) == list(range(30)) != stream.tolist()
