"""GHM against loops over the paper's formulas, and its laws."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.ghm import (
    authentic_smooth_l1,
    bin_weights,
    ghm_c_loss,
    ghm_r_loss,
    gradient_bins,
)
from tests.helpers import oracles_ghm


def classification_case(num, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num, num_classes, generator=generator, dtype=torch.double)
    target = torch.rand(num, num_classes, generator=generator) < 0.3
    valid = torch.rand(num, num_classes, generator=generator) < 0.8
    return logits, target, valid


def regression_case(num, seed):
    generator = torch.Generator().manual_seed(seed)
    pred = 0.1 * torch.randn(num, 4, generator=generator, dtype=torch.double)
    target = 0.1 * torch.randn(num, 4, generator=generator, dtype=torch.double)
    valid = torch.rand(num, 4, generator=generator) < 0.7
    return pred, target, valid


@settings(deadline=None, max_examples=25)
@given(
    num=st.integers(1, 30),
    num_classes=st.integers(1, 5),
    num_bins=st.integers(1, 40),
    seed=st.integers(0, 10**6),
    normalize_by=st.sampled_from(['nonempty_bins', 'bins']),
)
def test_ghm_c_equals_the_loops(num, num_classes, num_bins, seed, normalize_by):
    logits, target, valid = classification_case(num, num_classes, seed)
    loss, weights = ghm_c_loss(logits, target, valid, num_bins, normalize_by)
    expected, expected_weights = oracles_ghm.ghm_c(
        logits.tolist(),
        target.int().tolist(),
        valid.tolist(),
        num_bins,
        normalize_by,
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert weights.flatten().tolist() == pytest.approx(expected_weights, rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(
    num=st.integers(1, 30),
    num_bins=st.integers(1, 20),
    seed=st.integers(0, 10**6),
    normalize_by=st.sampled_from(['nonempty_bins', 'bins']),
)
def test_ghm_r_equals_the_loops(num, num_bins, seed, normalize_by):
    pred, target, valid = regression_case(num, seed)
    loss, weights = ghm_r_loss(pred, target, valid, 0.02, num_bins, normalize_by)
    expected, expected_weights = oracles_ghm.ghm_r(
        pred.tolist(), target.tolist(), valid.tolist(), 0.02, num_bins, normalize_by
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert weights.flatten().tolist() == pytest.approx(expected_weights, rel=1e-9)


def test_one_bin_is_the_plain_loss():
    logits, target, _ = classification_case(50, 7, seed=0)
    loss, weights = ghm_c_loss(logits, target, num_bins=1)
    torch.testing.assert_close(weights, torch.ones_like(logits))
    torch.testing.assert_close(
        loss, F.binary_cross_entropy_with_logits(logits, target.double())
    )
    pred, target, _ = regression_case(50, seed=0)
    loss, weights = ghm_r_loss(pred, target, num_bins=1)
    torch.testing.assert_close(weights, torch.ones_like(pred))
    torch.testing.assert_close(loss, authentic_smooth_l1(pred - target, 0.02).mean())


def test_equal_counts_in_all_bins_weigh_nothing():
    centres = (torch.arange(10) + 0.5) / 10
    logits = torch.logit(centres.double()).repeat(3).view(-1, 1)
    for normalize_by in ('bins', 'nonempty_bins'):
        _, weights = ghm_c_loss(
            logits,
            torch.zeros_like(logits),
            num_bins=10,
            normalize_by=normalize_by,
        )
        torch.testing.assert_close(weights, torch.ones_like(weights))


def test_weights_sum_to_the_number_of_valid_terms():
    logits, target, valid = classification_case(200, 6, seed=1)
    _, weights = ghm_c_loss(logits, target, valid)
    assert weights.sum().item() == pytest.approx(valid.sum().item())
    assert (weights[~valid] == 0).all()


def test_rarer_gradient_norms_weigh_more():
    logits = torch.tensor([[-4.0]] * 90 + [[4.0]] * 10)
    _, weights = ghm_c_loss(logits, torch.zeros_like(logits))
    assert (weights[90:] == 9 * weights[0]).all()


def test_terms_that_are_not_valid_are_invisible_even_with_inf_and_nan():
    logits, target, _ = classification_case(20, 4, seed=2)
    junk = torch.tensor([[torch.inf, -torch.inf, torch.nan, 0.0]], dtype=torch.double)
    longer = torch.cat([logits, junk]).requires_grad_()
    valid = torch.ones(21, 4, dtype=torch.bool)
    valid[-1] = False
    loss, _ = ghm_c_loss(longer, torch.cat([target, target[:1]]), valid)
    torch.testing.assert_close(loss, ghm_c_loss(logits, target)[0])
    loss.backward()
    assert longer.grad.isfinite().all()
    assert (longer.grad[-1] == 0).all()


def test_no_valid_terms_give_a_zero_on_the_graph():
    logits = torch.full((3, 2), torch.inf, requires_grad=True)
    valid = torch.zeros(3, 2, dtype=torch.bool)
    loss, weights = ghm_c_loss(logits, torch.zeros(3, 2), valid)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
    assert (weights == 0).all()


def test_empty_input_gives_a_zero_on_the_graph():
    logits = torch.zeros(0, 3, requires_grad=True)
    ghm_c_loss(logits, torch.zeros(0, 3))[0].backward()
    pred = torch.zeros(0, 4, requires_grad=True)
    ghm_r_loss(pred, torch.zeros(0, 4))[0].backward()
    assert logits.grad.shape == (0, 3)
    assert pred.grad.shape == (0, 4)


def test_gradient_is_that_of_the_loss_with_weights_held_constant():
    logits, target, valid = classification_case(40, 5, seed=3)
    logits.requires_grad_()
    loss, weights = ghm_c_loss(logits, target, valid)
    assert not weights.requires_grad
    (gradient,) = torch.autograd.grad(loss, logits)
    plain = F.binary_cross_entropy_with_logits(
        logits, target.double(), weight=weights, reduction='sum'
    )
    (expected,) = torch.autograd.grad(plain / valid.sum(), logits)
    torch.testing.assert_close(gradient, expected)


def test_permuting_rows_and_classes_permutes_the_weights():
    logits, target, valid = classification_case(30, 5, seed=4)
    loss, weights = ghm_c_loss(logits, target, valid)
    rows, columns = torch.randperm(30), torch.randperm(5)

    def moved(tensor):
        return tensor[rows][:, columns]

    loss2, weights2 = ghm_c_loss(moved(logits), moved(target), moved(valid))
    torch.testing.assert_close(loss2, loss)
    torch.testing.assert_close(weights2, moved(weights))


def test_an_edge_belongs_to_the_bin_above_and_one_to_the_last():
    index, count = gradient_bins(torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]), None, 10)
    assert index.tolist() == [0, 1, 5, 9, 9]
    assert count.tolist() == [1, 1, 0, 0, 0, 1, 0, 0, 0, 2]


def test_smoothed_density_takes_the_place_of_the_counts():
    index = torch.tensor([0, 0, 1, 3], dtype=torch.int32)
    count = torch.tensor([2.0, 1.0, 0.0])
    density = torch.tensor([4.0, 0.5, 7.0])
    weights = bin_weights(count, 'nonempty_bins', density)
    assert weights[index].tolist() == [3 / 8, 3 / 8, 3.0, 0.0]


def test_blocks_of_rows_add_up(monkeypatch):
    logits, target, valid = classification_case(50, 6, seed=6)
    logits.requires_grad_()
    loss, weights = ghm_c_loss(logits, target, valid)
    (gradient,) = torch.autograd.grad(loss, logits)
    # Four rows a block, in place of all of them.
    monkeypatch.setattr('mmdet_imbalance.core.blocks.CPU_BLOCK', 24)
    loss2, weights2 = ghm_c_loss(logits, target, valid)
    (gradient2,) = torch.autograd.grad(loss2, logits)
    torch.testing.assert_close(loss2, loss)
    torch.testing.assert_close(weights2, weights)
    torch.testing.assert_close(gradient2, gradient)


def test_a_second_derivative_is_refused_and_not_silently_zero():
    logits, target, _ = classification_case(5, 3, seed=7)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(
        ghm_c_loss(logits, target)[0], logits, create_graph=True
    )
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


def test_half_precision_is_computed_in_float32():
    logits, target, _ = classification_case(30, 4, seed=5)
    loss, weights = ghm_c_loss(logits.half(), target)
    assert loss.dtype == weights.dtype == torch.float32
    torch.testing.assert_close(loss, ghm_c_loss(logits.half().float(), target)[0])


@pytest.mark.parametrize(
    ('change', 'name'),
    [
        (dict(target=torch.zeros(3, 3)), 'target'),
        (dict(valid=torch.ones(3, 1, dtype=torch.bool)), 'valid'),
        (dict(valid=torch.ones(3, 2)), 'valid'),
        (dict(num_bins=0), 'num_bins'),
        (dict(normalize_by='all'), 'normalize_by'),
    ],
)
def test_wrong_arguments_are_named(change, name):
    arguments = dict(logits=torch.zeros(3, 2), target=torch.zeros(3, 2)) | change
    with pytest.raises(ValueError, match=f'`{name}`'):
        ghm_c_loss(**arguments)


def test_mu_must_be_positive():
    with pytest.raises(ValueError, match='`mu`'):
        ghm_r_loss(torch.zeros(1, 4), torch.zeros(1, 4), mu=0)
