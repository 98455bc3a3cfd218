import pytest
import torch
from torch import Tensor

from mmdet_imbalance.core.closed_gradient import (
    like_loss_and_gradient,
    with_closed_gradient,
)
from mmdet_imbalance.functional import (
    concurrent_softmax_loss,
    ghm_c_loss,
    multi_label_focal_loss,
)


@with_closed_gradient('mmdet_imbalance_tests::square_rows')
def square_rows(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits.square().sum(dim=1), 2.0 * logits


def _like_outputs(logits: Tensor, scale: Tensor, *_):
    return *like_loss_and_gradient(logits), torch.empty_like(scale)


@with_closed_gradient('mmdet_imbalance_tests::scaled_rows', fake=_like_outputs)
def scaled_rows(
    logits: Tensor, scale: Tensor, weight: Tensor | None, power: float
) -> tuple[Tensor, Tensor, Tensor]:
    """With inputs of every kind, and one output more."""
    scale = scale**power if weight is None else scale**power * weight
    return logits.square() @ scale, 2.0 * logits * scale, scale + 0.0


LOSSES = {
    'square': lambda z: square_rows(z)[0],
    'scaled': lambda z: scaled_rows(z, z.new_tensor([1.0, 2.0, 3.0]), None, 2.0)[0],
}


@pytest.fixture
def logits():
    gen = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, generator=gen, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)
def test_backward_scales_the_rows_of_the_gradient(loss, logits):
    assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)
def test_a_second_derivative_raises(loss, logits):
    (first,) = torch.autograd.grad(loss(logits).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match='scale_rows'):
        torch.autograd.grad(first.sum(), logits)


@pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES)
def test_a_compiler_traces_loss_and_gradient_whole(loss, logits):
    compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
    value = compiled(logits)
    torch.testing.assert_close(value, loss(logits))
    (found,) = torch.autograd.grad(value.sum(), logits)
    (expected,) = torch.autograd.grad(loss(logits).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_only_the_loss_has_a_gradient_and_only_the_logits_get_one(logits):
    scale = torch.ones(3, dtype=torch.float64, requires_grad=True)
    loss, _, total = scaled_rows(logits, scale, None, 1.0)
    unused = torch.autograd.grad(
        total.sum(), (logits, scale), retain_graph=True, allow_unused=True
    )
    assert unused == (None, None)
    of_logits, of_scale = torch.autograd.grad(
        loss.sum(), (logits, scale), allow_unused=True
    )
    torch.testing.assert_close(of_logits, 2.0 * logits.detach())
    assert of_scale is None


@pytest.mark.parametrize(
    'operator', [square_rows, scaled_rows], ids=['square', 'scaled']
)
def test_strides_are_what_the_compiler_was_told(operator, logits):
    """The operators of a dense head of one anchor get a transposed view."""
    view = logits.detach().t().contiguous().t()
    assert not view.is_contiguous()
    others = () if operator is square_rows else (torch.ones(3).double(), None, 2.0)
    torch.library.opcheck(operator, (view, *others), test_utils='test_faketensor')
    _, grad, *_ = operator(view, *others)
    assert grad.is_contiguous()


LOSSES_WITH_SETS = {
    'concurrent softmax': lambda z, y: concurrent_softmax_loss(z, y),
    'focal': lambda z, y: multi_label_focal_loss(z[:, :-1], y[:, :-1]),
    'GHM': lambda z, y: ghm_c_loss(z, y)[0],
}


@pytest.mark.parametrize('loss', LOSSES_WITH_SETS.values(), ids=LOSSES_WITH_SETS)
def test_a_compiled_loss_takes_transposed_logits(loss):
    gen = torch.Generator().manual_seed(0)
    leaf = torch.randn(4, 6, generator=gen).requires_grad_()
    target = torch.zeros(6, 4, dtype=torch.bool)
    target[range(6), [0, 1, 2, 3, 3, 0]] = True
    target[0, 1] = True

    def run(function):
        value = function((leaf * 1.0).t(), target).sum()
        return value, *torch.autograd.grad(value, leaf)

    expected = run(loss)
    compiled = torch.compile(loss, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(run(compiled), expected)
