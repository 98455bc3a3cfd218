import pytest
import torch
from torch.autograd import gradcheck

from mmdet_imbalance.core.asymmetric_rows import partial_asymmetric_rows
from mmdet_imbalance.functional import partial_asymmetric_loss

GAMMAS = [(0, 0, 0), (0, 1, 2), (2, 1, 0), (0, 1, 4), (0.5, 0, 1.5), (3, 3, 3)]


def example(seed, num=40, classes=9):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(num, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(-1, 2, (num, classes), generator=generator).to(torch.int8)
    ignored = (torch.rand(num, classes, generator=generator) < 0.3) & (target == -1)
    return logits, target, ignored


@pytest.mark.parametrize('gammas', GAMMAS)
@pytest.mark.parametrize('detach_focal', [False, True])
def test_value_and_gradient_equal_the_sum_of_the_terms(gammas, detach_focal):
    logits, target, ignored = example(0)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    got = partial_asymmetric_rows(ours, target, *gammas, ignored, detach_focal)
    weight = (~ignored).double()
    want = partial_asymmetric_loss(theirs, target, *gammas, weight, detach_focal)
    torch.testing.assert_close(got, want.sum(dim=1))
    row_weight = torch.linspace(0, 2, len(logits), dtype=torch.float64)
    (row_weight * got).sum().backward()
    (row_weight * want.sum(dim=1)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize('gammas', GAMMAS)
def test_gradient_equals_finite_differences(gammas):
    logits, target, ignored = example(1, num=4, classes=5)
    logits.requires_grad_()
    assert gradcheck(
        lambda z: partial_asymmetric_rows(z, target, *gammas, ignored), (logits,)
    )


@pytest.mark.parametrize('gammas', GAMMAS)
@pytest.mark.parametrize('bad', [torch.inf, -torch.inf, torch.nan])
def test_ignored_entries_are_invisible_even_when_infinite(gammas, bad):
    logits, target, ignored = example(2)
    want = partial_asymmetric_rows(logits, target, *gammas, ignored)
    z = logits.masked_fill(ignored, bad).requires_grad_()
    got = partial_asymmetric_rows(z, target, *gammas, ignored)
    torch.testing.assert_close(got, want)
    got.sum().backward()
    assert (z.grad[ignored] == 0).all()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize('gammas', GAMMAS)
def test_extreme_logits(gammas):
    target = torch.tensor([[1], [0], [-1]], dtype=torch.int8)
    right = torch.tensor([[1.0], [-1.0], [-1.0]])
    for size in (200.0, torch.inf):
        z = (size * right).requires_grad_()
        loss = partial_asymmetric_rows(z, target, *gammas)
        assert (loss == 0).all()
        loss.sum().backward()
        assert (z.grad == 0).all()
        z = (-size * right).requires_grad_()
        loss = partial_asymmetric_rows(z, target, *gammas)
        assert (loss == size).all()
        loss.sum().backward()
        torch.testing.assert_close(z.grad, -right)


def test_blocks_of_rows_do_not_show(monkeypatch):
    logits, target, ignored = example(3)
    want = partial_asymmetric_rows(logits, target, 0, 1, 2, ignored)
    monkeypatch.setattr('mmdet_imbalance.core.blocks.CPU_BLOCK', 20)
    got = partial_asymmetric_rows(logits, target, 0, 1, 2, ignored)
    assert torch.equal(got, want)


def test_no_rows():
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = partial_asymmetric_rows(logits, logits.to(torch.int8), 0, 1, 2)
    assert loss.shape == (0,)
    loss.sum().backward()
    assert logits.grad.shape == (0, 3)
