"""Checks of a loss's values: precision, extremes, and orders that do not matter.

Shapes: N rows, C foreground classes (background is index C). Deviations: none.
"""

import torch

from mmdet_imbalance.testing.contract_tools import (
    NUM_CLASSES,
    Factory,
    build,
    close,
    demo_batch,
    value_and_grad,
)
from mmdet_imbalance.testing.demo_stats import demo_class_stats


def check_autocast(factory: Factory) -> None:
    """Half precision logits, under autocast: computed in float32, finite."""
    for dtype in (torch.float16, torch.bfloat16):
        logits, labels = demo_batch(build(factory))
        logits = (20.0 * logits).to(dtype)
        with torch.autocast('cpu', dtype=dtype):
            value, grad = value_and_grad(build(factory), logits, labels)
            scores = build(factory).get_activation(logits)
        assert value.dtype == torch.float32, f'{dtype} must be upcast'
        assert grad.dtype == dtype
        assert grad.isfinite().all()
        assert scores.isfinite().all()
        expected, _ = value_and_grad(build(factory), logits.float(), labels)
        close(value, expected, f'autocast to {dtype}')


def check_extreme_logits(factory: Factory) -> None:
    """Logits of +-200 give a finite loss, gradient and scores."""
    loss = build(factory)
    logits, labels = demo_batch(loss)
    extreme = torch.where(logits > 0.5, 200.0, -200.0)
    value, grad = value_and_grad(loss, extreme, labels)
    assert value.isfinite()
    assert grad.isfinite().all()
    assert loss.get_activation(extreme).isfinite().all()


def check_nan(factory: Factory) -> None:
    """A nan in the logits of a row that counts gives a nan loss, never a number."""
    loss = build(factory)
    logits, labels = demo_batch(loss)
    logits[3] = torch.nan
    assert loss(logits, labels).isnan(), 'nan logits must show in the loss'


def check_row_permutation(factory: Factory) -> None:
    """The order of the rows does not matter."""
    logits, labels = demo_batch(build(factory))
    rows = build(factory, reduction='none')(logits, labels)
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(1))
    got = build(factory, reduction='none')(logits[order], labels[order])
    close(got, rows[order], 'permuted rows must have permuted losses')


def check_class_permutation(factory: Factory) -> None:
    """The order of the classes does not matter, statistics permuted alike."""
    order = torch.tensor([2, 0, 4, 1, 3])  # No class stays where it was.
    loss = build(factory, reduction='none')
    logits, labels = demo_batch(loss)
    columns = torch.arange(loss.cls_channels)
    columns[:NUM_CLASSES] = order
    new_label = torch.cat([order.argsort(), torch.tensor([NUM_CLASSES])])
    stats = demo_class_stats(NUM_CLASSES, order=order)
    other = build(factory, class_stats=stats, reduction='none')
    close(
        other(logits[:, columns], new_label[labels]),
        loss(logits, labels),
        'permuted classes must not change the loss',
    )
    close(
        other.get_activation(logits[:, columns])[:, :NUM_CLASSES],
        loss.get_activation(logits)[:, :NUM_CLASSES][:, order],
        'permuted classes must have permuted scores',
    )


def check_strides(factory: Factory) -> None:
    """Transposed logits, as a dense head of one anchor has them, change nothing."""
    logits, labels = demo_batch(build(factory))
    expected = value_and_grad(build(factory), logits, labels)
    got = value_and_grad(build(factory), logits.t().contiguous().t(), labels)
    close(got[0], expected[0], 'loss of transposed logits')
    close(got[1], expected[1], 'gradient of transposed logits')
