"""What the checks of a loss share: a batch, a fresh loss, comparisons.

Shapes: N rows, C foreground classes (background is index C). Deviations: none.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmdet_imbalance.testing.demo_stats import demo_class_stats

Factory = Callable[..., nn.Module]

NUM_CLASSES = 5
REDUCTIONS = ('none', 'mean', 'sum')


def demo_batch(loss: nn.Module, num_rows: int = 12, seed: int = 0):
    """Logits (N, channels) and labels (N,) that fit a loss; every class occurs.

    Logits lie in (0, 1), which is right for losses on similarities too.
    """
    gen = torch.Generator().manual_seed(seed)
    logits = torch.rand(num_rows, loss.cls_channels, generator=gen)
    labels = torch.arange(num_rows) % (loss.num_classes + 1)
    return logits, labels[torch.randperm(num_rows, generator=gen)]


def build(factory: Factory, num_classes: int = NUM_CLASSES, **kwargs) -> nn.Module:
    """A fresh loss with statistics."""
    kwargs.setdefault('class_stats', demo_class_stats(num_classes))
    return factory(num_classes=num_classes, **kwargs)


def value_and_grad(loss, logits: Tensor, target, weight=None, avg_factor=None):
    """Loss, and its gradient by the logits."""
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target, weight, avg_factor)
    value.backward()
    return value.detach(), logits.grad


def close(got: Tensor, expected: Tensor, message: str) -> None:
    """AssertionError with the promise in front, unless the two are close."""
    torch.testing.assert_close(
        got, expected, rtol=1e-4, atol=1e-5, msg=lambda text: f'{message}: {text}'
    )


def must_raise(kind: type[Exception], call: Callable[[], object]) -> str:
    """Message of the exception that the call must raise."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f'a {kind.__name__} must be raised')
