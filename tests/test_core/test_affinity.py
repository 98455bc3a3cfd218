import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mmdet_imbalance.core.affinity import max_margin_rows
from mmdet_imbalance.core.blocks import CPU_BLOCK
from mmdet_imbalance.functional import (
    gaussian_affinity,
    max_margin_affinity_loss,
    prototype_diversity,
)
from tests.helpers import oracles_affinity as oracle


def example(seed, num=6, dim=3, owners=(0, 2, 2, 1, 0, 2)):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num, dim, generator=generator, dtype=torch.float64)
    prototypes = torch.randn(len(owners), dim, generator=generator, dtype=torch.float64)
    return features, prototypes, torch.tensor(owners)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.1, 50.0), st.floats(0.0, 1.0))
def test_similarity_and_loss_equal_the_loops(seed, sigma, margin):
    features, prototypes, owners = example(seed)
    got = gaussian_affinity(features, prototypes, owners, sigma)
    want = oracle.affinity(
        features.tolist(), prototypes.tolist(), owners.tolist(), sigma
    )
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))
    labels = torch.arange(len(features)) % got.size(1)
    loss = max_margin_affinity_loss(got, labels, margin)
    want = oracle.max_margin(got.tolist(), labels.tolist(), margin)
    torch.testing.assert_close(loss, torch.tensor(want, dtype=torch.float64))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(0, 9))
def test_diversity_equals_the_loop(seed, num):
    prototypes = torch.randn(
        num, 4, generator=torch.Generator().manual_seed(seed)
    ).double()
    torch.testing.assert_close(
        prototype_diversity(prototypes),
        torch.tensor(oracle.diversity(prototypes.tolist()), dtype=torch.float64),
    )


def test_columns_are_the_owning_classes_in_class_order():
    features = torch.tensor([[0.0, 0.0]])
    prototypes = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    got = gaussian_affinity(features, prototypes, torch.tensor([7, 2]), 1.0)
    assert got.shape == (1, 2)
    assert got[0, 1] == 1.0 > got[0, 0] > 0.0


def test_far_from_the_origin_nothing_cancels():
    features, prototypes, owners = example(3)
    want = gaussian_affinity(features, prototypes, owners, 2.0).float()
    shift = 1000.0
    got = gaussian_affinity(
        (features + shift).float(), (prototypes + shift).float(), owners, 2.0
    )
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)


def test_a_feature_on_its_prototype_is_as_similar_as_one_at_any_scale():
    prototypes = 300.0 * torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    got = gaussian_affinity(prototypes, prototypes, torch.arange(6), 5.0)
    torch.testing.assert_close(got, torch.eye(6), rtol=0, atol=0)


def test_relabelling_the_classes_permutes_the_columns():
    features, prototypes, owners = example(1)
    perm = torch.tensor([2, 0, 1])
    got = gaussian_affinity(features, prototypes, perm[owners], 4.0)
    want = gaussian_affinity(features, prototypes, owners, 4.0)
    torch.testing.assert_close(got[:, perm], want)


def test_loss_falls_as_the_margin_to_the_right_prototype_grows():
    similarity = torch.tensor([[s, 0.5, 0.4] for s in (0.2, 0.5, 0.7, 0.95)])
    loss = max_margin_affinity_loss(similarity, torch.zeros(4, dtype=torch.long), 0.4)
    assert (loss.diff() < 0).all()
    assert loss[-1] == 0.0


def test_diversity_is_zero_for_equidistant_prototypes():
    torch.testing.assert_close(prototype_diversity(torch.eye(5)), torch.tensor(0.0))
    assert prototype_diversity(torch.eye(5) * torch.arange(1, 6)) > 1.0


def test_gradients():
    features, prototypes, owners = example(5)
    features.requires_grad_()
    prototypes.requires_grad_()
    assert gradcheck(
        lambda f, w: gaussian_affinity(f, w, owners, 3.0), (features, prototypes)
    )
    assert gradcheck(prototype_diversity, (prototypes,))
    similarity = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, 1, 1])
    assert gradcheck(lambda s: max_margin_affinity_loss(s, labels, 2.0), (similarity,))


@pytest.mark.parametrize('extra_weight', [0.0, 0.3])
def test_gradient_of_many_rows_is_that_of_the_plain_equation(extra_weight):
    gen = torch.Generator().manual_seed(5)
    num = 2 * CPU_BLOCK // 7  # Three blocks of rows.
    values = torch.rand(num, 7 + (extra_weight > 0), generator=gen)
    labels = torch.randint(7, (num,), generator=gen)
    upstream = torch.randn(num, generator=gen)
    ours, plain = (values.clone().requires_grad_() for _ in range(2))
    got = max_margin_rows(ours, labels, 0.4, extra_weight)
    got.backward(upstream)
    classes, right = plain[:, :7], plain.gather(1, labels[:, None])
    is_wrong = torch.ones(num, 7).scatter(1, labels[:, None], 0.0)
    want = (is_wrong * (0.4 + classes - right).relu()).sum(1)
    want = want + extra_weight * plain[:, -1]
    want.backward(upstream)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(ours.grad, plain.grad)


def test_no_features_and_half_precision():
    _, prototypes, owners = example(0)
    empty = gaussian_affinity(prototypes.new_zeros(0, 3), prototypes, owners, 1.0)
    assert empty.shape == (0, 3)
    half = gaussian_affinity(prototypes.half(), prototypes.half(), owners, 1.0)
    assert half.dtype == torch.float32
    assert max_margin_affinity_loss(empty, torch.zeros(0).long(), 0.5).shape == (0,)


@pytest.mark.parametrize(
    'call',
    [
        lambda: gaussian_affinity(
            torch.ones(2, 3), torch.ones(2, 4), torch.zeros(2), 1
        ),
        lambda: gaussian_affinity(
            torch.ones(2, 3), torch.ones(2, 3), torch.zeros(3), 1
        ),
        lambda: gaussian_affinity(
            torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2), 0
        ),
        lambda: max_margin_affinity_loss(torch.ones(2, 3), torch.zeros(3), 0.5),
        lambda: prototype_diversity(torch.ones(3)),
    ],
)
def test_bad_shapes_are_named(call):
    with pytest.raises(ValueError, match='`'):
        call()


@pytest.mark.parametrize('labels', [[0.5, 1.0], [0, 3], [-1, 0]])
def test_labels_that_are_no_columns_are_named(labels):
    with pytest.raises(ValueError, match='labels must be'):
        max_margin_affinity_loss(torch.ones(2, 3), torch.tensor(labels), 0.5)
