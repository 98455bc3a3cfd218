import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.class_weights import class_weight_vector
from mmdet_imbalance.functional import effective_num_weights, inverse_count_weights
from tests.helpers.oracles_class_balanced import effective_num_loop

# Counts of long-tailed CIFAR-10, weights by the formula of arXiv 1901.05555, section 4.
COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
GOLDEN = {
    0.9999: [
        0.0506, 0.0769, 0.1211, 0.1950, 0.3188, 0.5246, 0.8684, 1.4426, 2.4092, 3.9927
    ],
    0.999: [
        0.1812, 0.1894, 0.2157, 0.2729, 0.3785, 0.5606, 0.8688, 1.3862, 2.2585, 3.6883
    ],
}  # fmt: skip


@pytest.mark.parametrize('beta', sorted(GOLDEN))
def test_weights_of_the_paper(beta):
    weights = effective_num_weights(torch.tensor(COUNTS), beta)
    torch.testing.assert_close(weights, torch.tensor(GOLDEN[beta]), rtol=0, atol=6e-5)


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(0, 400), min_size=1, max_size=8).filter(any),
    beta=st.sampled_from([0.0, 0.5, 0.9, 0.999, 0.999999]),
)
def test_equals_the_geometric_sum(counts, beta):
    weights = effective_num_weights(torch.tensor(counts), beta)
    torch.testing.assert_close(weights.tolist(), effective_num_loop(counts, beta))


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(0, 10**7), min_size=1, max_size=8),
    beta=st.floats(0.0, 1 - 1e-12),
)
def test_laws_of_effective_numbers(counts, beta):
    counts = torch.tensor(counts)
    weights = effective_num_weights(counts, beta)
    assert weights.isfinite().all()
    assert (weights > 0).all()
    # They sum to the number of classes that have a count.
    torch.testing.assert_close(
        weights[counts > 0].sum(), (counts > 0).sum().float(), rtol=1e-4, atol=1e-6
    )
    # More samples never weigh more; a class without weighs as one with one.
    order = counts.clamp(min=1).argsort()
    assert (weights[order].diff() <= 1e-6 * weights.max()).all()
    perm = torch.randperm(len(counts))
    torch.testing.assert_close(
        effective_num_weights(counts[perm], beta), weights[perm], rtol=1e-5, atol=0
    )


def test_limits():
    counts = torch.tensor([1, 10, 1000, 0])
    torch.testing.assert_close(effective_num_weights(counts, 0.0), torch.ones(4))
    torch.testing.assert_close(
        effective_num_weights(counts, 1 - 1e-13), inverse_count_weights(counts)
    )
    torch.testing.assert_close(inverse_count_weights(counts, 0.0), torch.ones(4))
    no_count = torch.zeros(3, dtype=torch.long)
    torch.testing.assert_close(effective_num_weights(no_count, 0.9), torch.ones(3))
    assert effective_num_weights(torch.zeros(0), 0.9).shape == (0,)


def test_inverse_and_its_square_root():
    counts = torch.tensor([1, 4, 0, 100])
    weights = inverse_count_weights(counts)
    torch.testing.assert_close(
        weights, torch.tensor([1, 0.25, 1, 0.01]) * 3 / 1.26, rtol=1e-5, atol=0
    )
    weights = inverse_count_weights(counts, 0.5)
    torch.testing.assert_close(
        weights, torch.tensor([1, 0.5, 1, 0.1]) * 3 / 1.6, rtol=1e-5, atol=0
    )


STATS = SimpleNamespace(
    instance_count=np.array([100, 10, 0]), img_count=np.array([20, 10, 0])
)


@pytest.mark.parametrize(
    ('rule', 'counts', 'background'),
    [
        (dict(type='effective_num', beta=0.9), STATS.instance_count, 1.0),
        (dict(type='effective_num', beta=0.9, count='image'), STATS.img_count, 1.0),
        (dict(type='effective_num', beta=0.5, background=0.2), [100, 10, 0], 0.2),
    ],
)
def test_rule_of_a_config(rule, counts, background):
    weights = class_weight_vector(rule, 3, STATS)
    expected = effective_num_weights(torch.as_tensor(counts), rule['beta'])
    torch.testing.assert_close(weights[:3], expected)
    assert float(weights[3]) == pytest.approx(background)


def test_inverse_rules_of_a_config():
    for name, exponent in (('inverse', 1.0), ('inverse_sqrt', 0.5)):
        weights = class_weight_vector(dict(type=name), 3, STATS)
        torch.testing.assert_close(
            weights[:3],
            inverse_count_weights(torch.tensor([100, 10, 0]), exponent),
        )


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(
        st.tuples(st.integers(0, 5000), st.integers(1, 9)), min_size=1, max_size=8
    ).filter(lambda pairs: any(images for images, _ in pairs)),
    rule=st.sampled_from(
        [
            dict(type='effective_num', beta=0.0),
            dict(type='effective_num', beta=0.999, background=0.3),
            dict(type='inverse', count='image'),
            dict(type='inverse_sqrt'),
        ]
    ),
)
def test_objects_weigh_1_on_average_whatever_is_counted(counts, rule):
    images = np.array([images for images, _ in counts])
    objects = images * np.array([each for _, each in counts])
    stats = SimpleNamespace(instance_count=objects, img_count=images)
    by_class = class_weight_vector(rule, len(counts), stats).double()
    rule = dict(rule, normalize='object')
    by_object = class_weight_vector(rule, len(counts), stats).double()
    mean = (by_object[:-1].numpy() * objects).sum() / objects.sum()
    assert mean == pytest.approx(1, rel=1e-5)
    # The same relations between classes, and the background as it was.
    torch.testing.assert_close(
        by_object[:-1] * by_class[0], by_class[:-1] * by_object[0], rtol=1e-5, atol=0
    )
    assert by_object[-1] == by_class[-1]


def test_without_any_object_all_weigh_1():
    stats = SimpleNamespace(instance_count=np.zeros(3), img_count=np.zeros(3))
    rule = dict(type='inverse', normalize='object')
    assert class_weight_vector(rule, 3, stats).tolist() == [1, 1, 1, 1]


def test_lists_with_and_without_background():
    for values in ([1, 2, 3], (1.0, 2.0, 3.0), np.array([1, 2, 3])):
        weights = class_weight_vector(values, 3)
        torch.testing.assert_close(weights, torch.tensor([1.0, 2.0, 3.0, 1.0]))
    weights = class_weight_vector([1, 2, 3, 0.5], 3)
    torch.testing.assert_close(weights, torch.tensor([1.0, 2.0, 3.0, 0.5]))


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: effective_num_weights(torch.ones(2), 1.0), '`beta`.*got 1.0'),
        (lambda: effective_num_weights(torch.ones(2), -0.1), '`beta`'),
        (lambda: effective_num_weights(torch.ones(2), math.nan), '`beta`'),
        (lambda: effective_num_weights(torch.ones(2, 2), 0.9), r'\(2, 2\)'),
        (lambda: effective_num_weights(torch.tensor([3, -1]), 0.9), '-1.0 for class 1'),
        (lambda: effective_num_weights(torch.tensor([math.nan]), 0.9), 'nan'),
        (lambda: inverse_count_weights(torch.ones(2), -1.0), '`exponent`'),
        (lambda: class_weight_vector(dict(type='effective_num'), 3, STATS), '`beta`'),
        (lambda: class_weight_vector(dict(type='inv'), 3, STATS), "got 'inv'"),
        (
            lambda: class_weight_vector(dict(type='inverse', beta=0.9), 3, STATS),
            'beta',
        ),
        (
            lambda: class_weight_vector(dict(type='inverse', count='box'), 3, STATS),
            "count='box'",
        ),
        (
            lambda: class_weight_vector(
                dict(type='inverse', normalize='image'), 3, STATS
            ),
            "normalize='image'",
        ),
        (lambda: class_weight_vector(dict(type='inverse'), 3), 'statistics'),
        (lambda: inverse_count_weights(torch.tensor([1.0, math.inf])), 'finite'),
        (lambda: class_weight_vector([1.0, 2.0], 3), '3 numbers'),
        (lambda: class_weight_vector([1.0, math.inf, 1.0], 3), 'inf for class 1'),
        (lambda: class_weight_vector([1.0, -1.0, 1.0], 3), '-1.0 for class 1'),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
