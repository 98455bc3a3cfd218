"""Losses that compute their gradient beside their value, as operators of their own.

On label sets the number of terms depends on the data, which a compiler cannot trace;
and a chain of a dozen steps in place needs one matrix, where autograd keeps a dozen. So
the derivative stands in closed form next to the loss, and backward scales its rows.

Shapes: N rows, C columns. Deviations: none, this is plumbing.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


@torch.library.custom_op('mmdet_imbalance::scale_rows', mutates_args=())
def scale_rows(matrix: Tensor, factor: Tensor) -> Tensor:
    """Product with a factor a row: the backward of losses with a closed gradient.

    An operator without a derivative: a second derivative raises, rather than lie.

    Args:
        matrix: derivative of each row's loss, (N, C).
        factor: derivative by each row's loss, (N,).
    """
    return (matrix * factor[:, None]).contiguous()


@scale_rows.register_fake
def _(matrix, factor):
    return torch.empty_like(matrix, memory_format=torch.contiguous_format)


def like_loss_and_gradient(logits: Tensor, *_) -> tuple[Tensor, Tensor]:
    """Empty tensors in the shapes of a loss (N,) and its gradient (N, C)."""
    grad = torch.empty_like(logits, memory_format=torch.contiguous_format)
    return logits.new_empty(len(logits)), grad


def with_closed_gradient(name: str, fake: Callable = like_loss_and_gradient):
    """Decorator: a function of logits becomes an operator that can be differentiated.

    The function takes logits (N, C) first and returns the loss of each row, (N,), its
    derivative by the logits, (N, C), and maybe more; only the loss has a gradient, and
    only the logits get one.

    Args:
        name: of the operator, 'mmdet_imbalance::...'.
        fake: gives empty tensors in the shapes of all that the function returns, from
            the same arguments.
    """

    def define(function: Callable) -> torch.library.CustomOpDef:
        # A dense head of one anchor hands over a transposed view. A compiler has to
        # know the strides that come out, so there is one layout: rows one by one.
        @functools.wraps(function)
        def by_rows(logits: Tensor, *others):
            return function(logits.contiguous(), *others)

        operator = torch.library.custom_op(name, by_rows, mutates_args=())
        operator.register_fake(fake)
        operator.register_autograd(_backward, setup_context=_keep_gradient)
        return operator

    return define


def _keep_gradient(ctx, inputs, output) -> None:
    ctx.save_for_backward(output[1])
    ctx.set_materialize_grads(False)
    ctx.num_others = len(inputs) - 1


def _backward(ctx, grad_loss, *_):
    (grad,) = ctx.saved_tensors
    grad_logits = None if grad_loss is None else scale_rows(grad, grad_loss)
    return grad_logits, *[None] * ctx.num_others
