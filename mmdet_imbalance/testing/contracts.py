"""What every classification loss of the package promises, as checks anyone can run.

    from mmdet_imbalance.testing import check_classification_loss
    check_classification_loss(MyLoss)

runs them all on a loss of one's own; each check can be called alone. A check raises
AssertionError, with the broken promise in the message. `factory(num_classes, **kwargs)`
builds a fresh loss (the class itself will do); the keyword arguments are those of
`ClassificationLoss`.

Shapes: N rows, C foreground classes (background is index C). Deviations: none.
"""

import torch

from mmdet_imbalance.testing.contract_tools import (
    NUM_CLASSES,
    REDUCTIONS,
    Factory,
    build,
    close,
    demo_batch,
    must_raise,
    value_and_grad,
)
from mmdet_imbalance.testing.demo_stats import demo_class_stats
from mmdet_imbalance.testing.state_contracts import (
    check_bad_labels,
    check_bad_shapes,
    check_forms_of_target,
    check_inputs_untouched,
    check_no_graph_break,
    check_own_statistics,
    check_repr,
    check_state_dict,
    check_statistics,
    check_unknown_argument,
)
from mmdet_imbalance.testing.value_contracts import (
    check_autocast,
    check_class_permutation,
    check_extreme_logits,
    check_nan,
    check_row_permutation,
    check_strides,
)


def check_protocol(factory: Factory) -> None:
    """The hooks of the host's heads: flags, channels, scores, accuracy."""
    loss = build(factory)
    for flag in ('custom_cls_channels', 'custom_activation', 'custom_accuracy'):
        assert getattr(loss, flag) is True, f'`{flag}` must be True'
    assert loss.get_cls_channels(NUM_CLASSES) == loss.cls_channels
    must_raise(ValueError, lambda: loss.get_cls_channels(NUM_CLASSES + 1))
    logits, labels = demo_batch(loss)
    scores = loss.get_activation(logits)
    assert scores.shape == (len(logits), NUM_CLASSES + 1), 'scores must be (N, C + 1)'
    assert ((scores >= 0) & (scores <= 1)).all(), 'scores must be in [0, 1]'
    assert loss.get_activation(logits[:0]).shape == (0, NUM_CLASSES + 1)
    for name, value in loss.get_accuracy(logits, labels).items():
        assert 'acc' in name, 'the log treats keys with "acc" as no losses'
        assert 0 <= float(value) <= 100
    # Sigmoid losses have no channel for the background.
    best = torch.full((len(labels), loss.cls_channels + 1), -5.0)
    best = best.scatter(1, labels[:, None], 5.0)[:, : loss.cls_channels]
    assert float(loss.get_accuracy(best, labels)['acc_classes']) == 100.0
    assert build(factory, use_sigmoid=loss.use_sigmoid).cls_channels == (
        loss.cls_channels
    )
    must_raise(ValueError, lambda: build(factory, use_sigmoid=not loss.use_sigmoid))
    must_raise(ValueError, lambda: loss(logits[:, :-1], labels))


def check_dense_head(factory: Factory) -> None:
    """A head that never asks for channels gets no score for the background."""
    loss = build(factory).eval()
    logits, _ = demo_batch(loss)
    scores = loss.get_activation(logits)
    assert (scores[:, NUM_CLASSES:] == 0).all(), (
        'a stock dense head takes every column for a class'
    )


def check_empty(factory: Factory) -> None:
    """No rows: a finite zero on the graph, for every reduction."""
    for reduction in REDUCTIONS:
        loss = build(factory, reduction=reduction)
        logits = torch.zeros(0, loss.cls_channels, requires_grad=True)
        value = loss(logits, torch.zeros(0, dtype=torch.long), torch.zeros(0))
        assert value.sum() == 0, 'the loss of nothing must be 0'
        value.sum().backward()
        assert logits.grad is not None, 'the zero must stay on the graph'


def check_one_class(factory: Factory) -> None:
    """A single foreground class is legal."""
    loss = build(factory, num_classes=1)
    logits, labels = demo_batch(loss)
    value, grad = value_and_grad(loss, logits, labels)
    assert value.isfinite()
    assert grad.isfinite().all()
    assert (grad != 0).any()
    assert loss.get_activation(logits).shape == (len(logits), 2)


def check_all_background(factory: Factory) -> None:
    """No positive anywhere: a finite loss that pushes the classes down."""
    loss = build(factory)
    logits, labels = demo_batch(loss)
    value, grad = value_and_grad(loss, logits, torch.full_like(labels, NUM_CLASSES))
    assert value.isfinite()
    assert value >= 0
    assert grad.isfinite().all()


def check_all_ignored(factory: Factory) -> None:
    """Weight 0 everywhere hides inf and nan, in value and gradient."""
    for bad in (torch.inf, -torch.inf, torch.nan):
        for avg_factor in (None, 1.0):
            loss = build(factory)
            logits, labels = demo_batch(loss)
            value, grad = value_and_grad(
                loss,
                torch.full_like(logits, bad),
                labels,
                torch.zeros(len(logits)),
                avg_factor,
            )
            assert value == 0, f'ignored rows of {bad} must give 0, got {value}'
            assert (grad == 0).all(), f'ignored rows of {bad} must have no gradient'


def check_ignored_rows_are_invisible(factory: Factory) -> None:
    """What stands in a row of weight 0 changes nothing, be it inf or a bad label."""
    logits, labels = demo_batch(build(factory))
    weight = torch.ones(len(logits))
    weight[::3] = 0.0
    other_logits, other_labels = logits.clone(), labels.clone()
    other_logits[::3] = torch.inf
    other_labels[::3] = 255
    kept, other = build(factory), build(factory)
    for _ in range(2):  # The second time with whatever state the first has left.
        expected = value_and_grad(kept, logits, labels, weight, 4.0)
        got = value_and_grad(other, other_logits, other_labels, weight, 4.0)
        torch.testing.assert_close(got, expected)
    for (name, a), (_, b) in zip(
        kept.state_dict().items(), other.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(b, a, msg=f'ignored rows change the state {name}')


def check_reductions(factory: Factory) -> None:
    """Each reduction x weight x avg_factor against the formula, and loss_weight."""
    logits, labels = demo_batch(build(factory))
    rows = build(factory, reduction='none')(logits, labels)
    assert rows.shape == (len(logits),), "reduction 'none' must give (N,)"
    some = torch.linspace(0.5, 2.0, len(logits))
    for weight in (None, some):
        weighted = rows if weight is None else rows * weight
        for reduction, avg_factor, expected in (
            ('none', None, weighted),
            ('none', 7.0, weighted),
            ('sum', None, weighted.sum()),
            ('mean', None, weighted.mean()),
            ('mean', 7.0, weighted.sum() / 7.0),
            ('mean', torch.tensor(7.0), weighted.sum() / 7.0),
        ):
            message = f'{reduction=}, {avg_factor=}, weight={weight is not None}'
            loss = build(factory, reduction=reduction)
            got = loss(logits, labels, weight, avg_factor)
            close(got, expected, message)
            other = 'sum' if reduction != 'sum' else 'mean'
            loss = build(factory, reduction=other, loss_weight=3.0)
            got = loss(logits, labels, weight, avg_factor, reduction)
            close(got, 3.0 * expected, f'reduction_override, loss_weight: {message}')
    loss = build(factory)
    must_raise(ValueError, lambda: loss(logits, labels, None, 7.0, 'sum'))
    must_raise(ValueError, lambda: loss(logits, labels, None, None, 'average'))
    must_raise(ValueError, lambda: build(factory, reduction='average'))


def check_class_weight(factory: Factory) -> None:
    """Class weights multiply the loss of a row by the weight of its label."""
    stats = demo_class_stats(NUM_CLASSES, has_hierarchy=False)
    ones = [1.0] * (NUM_CLASSES + 1)
    # All statistics set aside: what differs is the weight alone.
    plain = build(factory, class_stats=stats, reduction='none', class_weight=ones)
    logits, labels = demo_batch(plain)
    rows = plain(logits, labels)
    weight = torch.linspace(0.0, 2.0, NUM_CLASSES + 1)
    loss = build(
        factory, class_stats=stats, reduction='none', class_weight=weight.tolist()
    )
    close(loss(logits, labels), rows * weight[labels], '`class_weight`')
    loss = build(
        factory,
        class_stats=stats,
        reduction='none',
        class_weight=dict(type='inverse', background=0.5),
    )
    count = torch.as_tensor(stats.instance_count).float()
    inverse = 1.0 / count * NUM_CLASSES / (1.0 / count).sum()
    inverse = torch.cat([inverse, torch.tensor([0.5])])
    close(loss(logits, labels), rows * inverse[labels], '`class_weight` by a rule')
    must_raise(ValueError, lambda: build(factory, class_weight=[1.0]))
    must_raise(ValueError, lambda: build(factory, class_weight=dict(type='no')))


#: All checks but the slow `check_no_graph_break`.
QUICK_CHECKS = (
    check_protocol,
    check_dense_head,
    check_empty,
    check_one_class,
    check_all_background,
    check_all_ignored,
    check_ignored_rows_are_invisible,
    check_reductions,
    check_class_weight,
    check_autocast,
    check_extreme_logits,
    check_nan,
    check_row_permutation,
    check_class_permutation,
    check_strides,
    check_forms_of_target,
    check_bad_labels,
    check_bad_shapes,
    check_statistics,
    check_own_statistics,
    check_state_dict,
    check_repr,
    check_unknown_argument,
    check_inputs_untouched,
)


def check_classification_loss(factory: Factory) -> None:
    """Run every check on a classification loss.

    Args:
        factory: builds a fresh loss from `num_classes` and keyword arguments.

    Raises:
        AssertionError: a promise is broken.
    """
    for check in (*QUICK_CHECKS, check_no_graph_break):
        try:
            check(factory)
        except AssertionError as error:
            raise AssertionError(f'{check.__name__}: {error}') from error
