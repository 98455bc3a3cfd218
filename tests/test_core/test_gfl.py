"""GFL against loops over the paper's formulas, and its laws."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.gfl import (
    distribution_focal_loss,
    distribution_mean,
    quality_focal_loss,
)
from tests.helpers import oracles_gfl


def case(num, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num, num_classes, generator=generator, dtype=torch.double)
    labels = torch.randint(num_classes + 1, (num,), generator=generator)
    quality = torch.rand(num, generator=generator, dtype=torch.double)
    return logits, labels, quality


@settings(deadline=None, max_examples=30)
@given(
    num=st.integers(1, 12),
    num_classes=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    beta=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_quality_focal_equals_the_loops(num, num_classes, seed, beta):
    logits, labels, quality = case(num, num_classes, seed)
    expected = oracles_gfl.quality_focal(
        logits.tolist(), [{y} for y in labels.tolist()], quality.tolist(), beta
    )
    loss = quality_focal_loss(logits, labels, quality, beta)
    assert loss.tolist() == pytest.approx(expected)


def test_quality_focal_of_label_sets_equals_the_loops():
    logits, _, quality = case(10, 5, seed=0)
    multi_hot = torch.rand(10, 5) < 0.4
    sets = [{j for j in range(5) if row[j]} for row in multi_hot.tolist()]
    expected = oracles_gfl.quality_focal(logits.tolist(), sets, quality.tolist(), 2.0)
    loss = quality_focal_loss(logits, multi_hot, quality)
    assert loss.tolist() == pytest.approx(expected)


def test_beta_zero_is_binary_cross_entropy_with_a_soft_target():
    logits, labels, quality = case(20, 6, seed=1)
    target = F.one_hot(labels, 7)[:, :6] * quality[:, None]
    torch.testing.assert_close(
        quality_focal_loss(logits, labels, quality, beta=0.0),
        F.binary_cross_entropy_with_logits(logits, target, reduction='none').sum(1),
    )


def test_quality_focal_passes_gradcheck():
    logits, labels, quality = case(6, 4, seed=2)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: quality_focal_loss(z, labels, quality), (logits,)
    )


def test_a_perfect_prediction_has_no_gradient():
    quality = torch.tensor([0.3, 0.8])
    logits = torch.logit(quality)[:, None].requires_grad_()
    quality_focal_loss(logits, torch.zeros(2).long(), quality).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(2, 1))


def test_terms_that_are_not_valid_count_nothing():
    logits, labels, quality = case(8, 4, seed=3)
    valid = torch.ones(8, 4, dtype=torch.bool)
    valid[:, 2] = False
    other = logits.clone()
    other[:, 2] += 5
    torch.testing.assert_close(
        quality_focal_loss(logits, labels, quality, valid=valid),
        quality_focal_loss(other, labels, quality, valid=valid),
    )


@settings(deadline=None, max_examples=30)
@given(
    num=st.integers(1, 12),
    num_values=st.integers(1, 17),
    seed=st.integers(0, 10**6),
)
def test_distribution_focal_equals_the_loops(num, num_values, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, num_values + 1, generator=generator, dtype=torch.double)
    target = num_values * torch.rand(num, generator=generator, dtype=torch.double)
    assert distribution_focal_loss(logits, target).tolist() == pytest.approx(
        oracles_gfl.distribution_focal(logits.tolist(), target.tolist())
    )


def test_an_integer_target_is_cross_entropy():
    logits = torch.randn(9, 9)
    target = torch.arange(9)
    torch.testing.assert_close(
        distribution_focal_loss(logits, target.float()),
        F.cross_entropy(logits, target, reduction='none'),
    )


def test_the_minimum_puts_its_mass_on_the_two_neighbours():
    logits = torch.zeros(1, 6, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=5.0)
    for _ in range(3000):
        optimizer.zero_grad()
        distribution_focal_loss(logits, torch.tensor([2.25])).sum().backward()
        optimizer.step()
    probs = logits.softmax(dim=1)[0]
    torch.testing.assert_close(
        probs, torch.tensor([0, 0, 0.75, 0.25, 0, 0]), atol=1e-3, rtol=0
    )
    assert distribution_mean(logits).item() == pytest.approx(2.25, abs=5e-3)


def test_a_distance_outside_the_values_is_that_of_the_nearer_end():
    logits = torch.tensor([[0.0, 0.0, 9.0]])
    for outside, end in ((5.0, 2.0), (-1.0, 0.0)):
        got = distribution_focal_loss(logits, torch.tensor([outside]))
        expected = -logits.log_softmax(dim=1)[:, int(end)]
        torch.testing.assert_close(got, expected)


def test_distribution_focal_passes_gradcheck():
    logits = torch.randn(5, 7, dtype=torch.double, requires_grad=True)
    target = torch.tensor([0.2, 1.7, 3.4, 5.9, 2.5], dtype=torch.double)
    assert torch.autograd.gradcheck(
        lambda z: distribution_focal_loss(z, target), (logits,)
    )


def test_empty_inputs_stay_on_the_graph():
    logits = torch.zeros(0, 4, requires_grad=True)
    empty = torch.zeros(0)
    quality_focal_loss(logits, empty.long(), empty).sum().backward()
    distribution_focal_loss(logits, empty).sum().backward()
    assert logits.grad.shape == (0, 4)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match='`quality`'):
        quality_focal_loss(torch.zeros(3, 2), torch.zeros(3).long(), torch.zeros(2))
    with pytest.raises(ValueError, match='`labels`'):
        quality_focal_loss(torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3))
    with pytest.raises(ValueError, match='`target`'):
        distribution_focal_loss(torch.zeros(3, 2), torch.zeros(3, 1))


@pytest.mark.parametrize('beta', [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize('scale', [200.0, 1e4])
def test_a_target_that_is_met_exactly_has_a_finite_gradient(beta, scale):
    # The score reaches 0 and 1 exactly, and |x|^beta has no slope there.
    logits = torch.tensor([[scale, -scale], [-scale, scale]], requires_grad=True)
    loss = quality_focal_loss(
        logits, torch.tensor([0, 1]), torch.tensor([1.0, 1.0]), beta
    )
    torch.testing.assert_close(loss, torch.zeros(2))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(2, 2))


@pytest.mark.parametrize('bad', [torch.inf, -torch.inf, torch.nan])
def test_terms_that_are_not_valid_hide_anything(bad):
    logits, labels, quality = case(6, 4, seed=5)
    valid = torch.rand(6, 4) < 0.5
    expected = quality_focal_loss(logits, labels, quality, valid=valid)
    hidden = logits.masked_fill(~valid, bad).requires_grad_()
    loss = quality_focal_loss(hidden, labels, quality, valid=valid)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    assert hidden.grad.isfinite().all()
    assert (hidden.grad[~valid] == 0).all()


def test_labels_outside_the_classes_are_named():
    with pytest.raises(ValueError, match='got 7'):
        quality_focal_loss(torch.zeros(1, 3), torch.tensor([7]), torch.ones(1))
    with pytest.raises(ValueError, match='beta'):
        quality_focal_loss(torch.zeros(1, 3), torch.tensor([0]), torch.ones(1), -1.0)
