"""Checks of a loss's targets, statistics, checkpoint and constructor.

Shapes: N rows, C foreground classes (background is index C). Deviations: none.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.testing.contract_tools import (
    NUM_CLASSES,
    Factory,
    build,
    close,
    demo_batch,
    must_raise,
    value_and_grad,
)
from mmdet_imbalance.testing.demo_stats import demo_class_stats


def check_forms_of_target(factory: Factory) -> None:
    """A loss on label sets takes them dense or for positives only, to one effect."""
    loss = build(factory, reduction='none')
    if loss.target_kind != 'multi_label':
        return
    logits, labels = demo_batch(loss)
    ancestors = torch.as_tensor(demo_class_stats(NUM_CLASSES).ancestor_matrix)
    pos_inds = (labels < NUM_CLASSES).nonzero().squeeze(1)
    sets = ancestors[labels[pos_inds]]
    dense = torch.zeros(len(labels), NUM_CLASSES, dtype=torch.bool)
    dense[pos_inds] = sets
    expected = loss(logits, labels)
    for name, target in {
        'MultiLabelTarget': MultiLabelTarget(labels, pos_inds, sets),
        'multi-hot (N, C)': dense,
        'multi-hot (N, C + 1)': torch.cat([dense, ~dense.any(1, keepdim=True)], 1),
    }.items():
        got = build(factory, reduction='none')(logits, target)
        close(got, expected, f'{name} must equal the labels and their ancestors')
    weight = torch.ones(len(logits))
    weight[0] = 0.0
    both = torch.cat([dense, ~dense.any(1, keepdim=True)], 1)
    both[0] = True  # Foreground and background at once, in a row that does not count.
    got = build(factory, reduction='none')(logits, both, weight)
    expected = build(factory, reduction='none')(logits, labels, weight)
    close(got, expected, 'what stands in an ignored row of a dense target')


def check_bad_labels(factory: Factory) -> None:
    """A label outside the class list is an error that names it."""
    loss = build(factory)
    logits, labels = demo_batch(loss)
    for bad in (-1, NUM_CLASSES + 1):
        wrong = labels.clone()
        wrong[0] = bad
        message = must_raise(ValueError, lambda wrong=wrong: loss(logits, wrong))
        assert str(bad) in message, f'the error must name the label {bad}'
    must_raise(ValueError, lambda: loss(logits, labels[:-1]))


def check_bad_shapes(factory: Factory) -> None:
    """Targets and weights that do not fit the logits are errors with their shape."""
    loss = build(factory)
    logits, labels = demo_batch(loss)
    num_rows = len(logits)
    for weight in (torch.ones(num_rows + 1), torch.ones(num_rows, 1)):
        must_raise(ValueError, lambda weight=weight: loss(logits, labels, weight))
    for shape in ((num_rows, NUM_CLASSES + 2), (num_rows, NUM_CLASSES, 1)):
        target = torch.zeros(shape, dtype=torch.bool)
        message = must_raise(ValueError, lambda target=target: loss(logits, target))
        assert str(shape) in message, 'the error must name the shape of the target'


def check_statistics(factory: Factory) -> None:
    """Without statistics it runs, or says what to do; of other classes they raise."""
    loss = factory(num_classes=NUM_CLASSES)
    logits, labels = demo_batch(loss)
    try:
        loss(logits, labels)
    except RuntimeError as error:
        message = str(error)
        assert 'ClassStatsHook' in message
        assert 'tools/class_stats.py' in message
    loss.set_class_stats(demo_class_stats(NUM_CLASSES))
    assert loss(logits, labels).isfinite()
    other = demo_class_stats(NUM_CLASSES + 1)
    must_raise(ValueError, lambda: loss.set_class_stats(other))


def check_state_dict(factory: Factory) -> None:
    """A checkpoint alone makes a fresh loss, without statistics, the same."""
    trained = build(factory)
    logits, labels = demo_batch(trained)
    for _ in range(2):
        trained(logits, labels)
    fresh = factory(num_classes=NUM_CLASSES)
    fresh.load_state_dict(trained.state_dict())
    for loss in (trained, fresh):
        loss.get_cls_channels(NUM_CLASSES)
        loss.eval()
    close(
        fresh.get_activation(logits), trained.get_activation(logits), 'scores restored'
    )
    close(fresh(logits, labels), trained(logits, labels), 'loss restored')


def check_own_statistics(factory: Factory) -> None:
    """Statistics in the config win over a checkpoint that was made with others."""
    order = torch.arange(NUM_CLASSES).flip(0)
    stats = demo_class_stats(NUM_CLASSES, order=order, has_hierarchy=False)
    loss, expected = (
        build(factory, class_stats=stats, reduction='none') for _ in range(2)
    )
    logits, labels = demo_batch(loss)
    loss.load_state_dict(build(factory).state_dict(), strict=False)
    close(loss(logits, labels), expected(logits, labels), 'own statistics kept')


def check_repr(factory: Factory) -> None:
    """`repr` names the class and its arguments."""
    text = repr(build(factory, loss_weight=0.375, reduction='sum'))
    for part in (type(build(factory)).__name__, str(NUM_CLASSES), '0.375', 'sum'):
        assert part in text, f'repr must show {part!r}, got {text!r}'


def check_unknown_argument(factory: Factory) -> None:
    """A misspelt argument raises, in the constructor and in the call."""
    must_raise(TypeError, lambda: build(factory, no_such_argument=1))
    loss = build(factory)
    logits, labels = demo_batch(loss)
    must_raise(TypeError, lambda: loss(logits, labels, no_such_argument=1))
    must_raise(ValueError, lambda: build(factory, num_classes=0, class_stats=None))


def check_inputs_untouched(factory: Factory) -> None:
    """Logits, targets and weights of the caller are left as they are."""
    loss = build(factory)
    logits, labels = demo_batch(loss)
    weight = torch.linspace(0.0, 1.0, len(logits))
    before = [value.clone() for value in (logits, labels, weight)]
    loss(logits, labels, weight)
    loss.get_activation(logits)
    torch.testing.assert_close([logits, labels, weight], before, rtol=0, atol=0)


def check_no_graph_break(factory: Factory, backend: str = 'aot_eager') -> None:
    """`torch.compile(fullgraph=True)` traces loss and gradient whole."""
    torch.compiler.reset()
    loss, eager = build(factory), build(factory)
    logits, labels = demo_batch(loss)
    weight = torch.linspace(0.0, 1.0, len(logits))
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    for target in _traced_targets(loss, labels):
        got = value_and_grad(compiled, logits, target, weight, 4.0)
        expected = value_and_grad(eager, logits, target, weight, 4.0)
        torch.testing.assert_close(got, expected)
    torch.compiler.reset()


def _traced_targets(loss: nn.Module, labels: Tensor) -> Iterator:
    yield labels
    if loss.target_kind == 'multi_label':
        pos_inds = (labels < NUM_CLASSES).nonzero().squeeze(1)
        sets = torch.as_tensor(demo_class_stats(NUM_CLASSES).ancestor_matrix)
        yield MultiLabelTarget(labels, pos_inds, sets[labels[pos_inds]])
