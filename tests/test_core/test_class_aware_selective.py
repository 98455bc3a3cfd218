import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mmdet_imbalance.functional import class_aware_ignore, partial_asymmetric_loss
from tests.helpers import oracles_partial as oracle


def example(seed, num=5, classes=7):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(-1, 2, (num, classes), generator=generator).to(torch.int8)
    return logits, target


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0, 3), st.floats(0, 4), st.floats(0, 4))
def test_equals_the_loop(seed, gamma_pos, gamma_neg, gamma_unann):
    logits, target = example(seed)
    weight = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed))
    got = partial_asymmetric_loss(
        logits, target, gamma_pos, gamma_neg, gamma_unann, weight
    )
    want = oracle.asymmetric(
        logits.tolist(),
        target.tolist(),
        gamma_pos,
        gamma_neg,
        gamma_unann,
        weight.tolist(),
    )
    torch.testing.assert_close(
        got, torch.tensor(want, dtype=torch.float64), rtol=1e-6, atol=1e-8
    )


def test_everything_annotated_without_focusing_is_bce():
    logits, target = example(0)
    target = target.clamp(min=0)
    torch.testing.assert_close(
        partial_asymmetric_loss(logits, target, 0, 0, 5.0),
        F.binary_cross_entropy_with_logits(logits, target.double(), reduction='none'),
    )


def test_unannotated_of_weight_zero_are_invisible_even_when_infinite():
    logits, target = example(1)
    for bad in (torch.inf, -torch.inf, torch.nan):
        z = logits.masked_fill(target == -1, bad).requires_grad_()
        loss = partial_asymmetric_loss(z, target, 0, 1, 2, torch.zeros(7)).sum()
        (grad,) = torch.autograd.grad(loss, z)
        want = oracle.asymmetric(
            logits.tolist(), target.tolist(), 0, 1, 2, [[0.0] * 7] * 5
        )
        assert loss.item() == pytest.approx(sum(map(sum, want)))
        assert (grad[target == -1] == 0).all()
        assert grad.isfinite().all()


def test_extreme_logits_stay_finite():
    z = torch.tensor([[200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    target = torch.tensor([[0, 1, 1, 0]], dtype=torch.int8)
    loss = partial_asymmetric_loss(z, target, 0.5, 4.0, 4.0)
    torch.testing.assert_close(loss, torch.tensor([[200.0, 200.0, 0.0, 0.0]]))
    (grad,) = torch.autograd.grad(loss.sum(), z)
    torch.testing.assert_close(grad, torch.tensor([[1.0, -1.0, 0.0, 0.0]]))


def test_infinite_logits_on_the_right_side_cost_nothing():
    z = torch.tensor([[torch.inf, -torch.inf, -torch.inf]])
    target = torch.tensor([[1, 0, -1]], dtype=torch.int8)
    for gammas in ((0, 0, 0), (1, 2, 3)):
        loss = partial_asymmetric_loss(z, target, *gammas)
        assert (loss == 0).all()
        assert partial_asymmetric_loss(-z, target, *gammas).isposinf().all()


@pytest.mark.parametrize('detach_focal', [False, True])
def test_probability_margin_equals_its_formula(detach_focal):
    logits, target = example(4)
    logits.requires_grad_()
    margin = 0.3
    loss = partial_asymmetric_loss(
        logits, target, 1, 2, 3, detach_focal=detach_focal, clip=margin
    )
    p = logits.sigmoid()
    shifted = (p - margin).clamp(min=0)
    assert (shifted[target != 1] == 0).any()
    gamma = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64)[target.long()]
    focal = torch.where(target == 1, 1 - p, shifted) ** gamma
    focal = focal.detach() if detach_focal else focal
    want = -focal * torch.where(target == 1, p, 1 - shifted).log()
    torch.testing.assert_close(loss, want)
    got_grad, want_grad = (
        torch.autograd.grad(each.sum(), logits)[0] for each in (loss, want)
    )
    torch.testing.assert_close(got_grad, want_grad)


def test_gradient_with_and_without_the_focal_factor():
    logits, target = example(2)
    logits.requires_grad_()
    assert gradcheck(lambda z: partial_asymmetric_loss(z, target, 1, 2, 3), (logits,))
    p = torch.where(target == 1, logits, -logits).sigmoid().detach()
    gamma = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64)[target.long()]
    held = (1 - p) ** gamma
    loss = partial_asymmetric_loss(logits, target, 1, 2, 3, detach_focal=True)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    base = F.binary_cross_entropy_with_logits(
        logits, (target == 1).double(), reduction='none'
    )
    (want,) = torch.autograd.grad((held * base).sum(), logits)
    torch.testing.assert_close(grad, want)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(0, 9),
    st.sampled_from(['sample', 'batch']),
    st.booleans(),
)
def test_ignored_entries_equal_the_loop(seed, top_k, scope, with_prior):
    logits, target = example(seed)
    prior = torch.rand(7, generator=torch.Generator().manual_seed(seed))
    kwargs = dict(prior=prior, prior_thr=0.6) if with_prior else {}
    got = class_aware_ignore(logits, target, top_k, scope=scope, **kwargs)
    if with_prior:
        kwargs['prior'] = prior.tolist()
    want = oracle.ignored(
        logits.tolist(), target.tolist(), top_k, scope=scope, **kwargs
    )
    assert got.tolist() == want
    assert not (got & (target != -1)).any()


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(top_k=-1),
        dict(top_k=1, scope='image'),
        dict(top_k=1, prior_thr=0.5),
        dict(top_k=1, prior=torch.rand(3), prior_thr=0.5),
    ],
)
def test_bad_arguments_are_named(kwargs):
    logits, target = example(0)
    with pytest.raises(ValueError, match='`'):
        class_aware_ignore(logits, target, **kwargs)


def test_bad_shapes_and_exponents_are_named():
    logits, target = example(0)
    with pytest.raises(ValueError, match='same shape'):
        partial_asymmetric_loss(logits, target[:2], 0, 1, 2)
    with pytest.raises(ValueError, match='clip'):
        partial_asymmetric_loss(logits, target, 0, 1, 2, clip=1.0)
    with pytest.raises(ValueError, match='gamma_unann'):
        partial_asymmetric_loss(logits, target, 0, 1, -2)
    with pytest.raises(ValueError, match='unann_weight'):
        partial_asymmetric_loss(logits, target, 0, 1, 2, torch.ones(3))


def test_empty_batch():
    logits, target = example(0, num=0)
    assert partial_asymmetric_loss(logits, target, 0, 1, 2).shape == (0, 7)
    for scope in ('sample', 'batch'):
        assert class_aware_ignore(logits, target, 3, scope=scope).shape == (0, 7)
