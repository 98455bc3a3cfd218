"""Baselines of the papers: shared softmax target, sigmoid and focal on label sets."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.distributed_softmax import distributed_softmax_terms
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing import demo_class_stats
from tests.helpers.oracles_class_balanced import focal_loop, shared_softmax_loop

# demo_class_stats(5): 1 is a 0.
LABELS = torch.tensor([0, 1, 2, 5])
CLOSED = [{0}, {0, 1}, {2}, {5}]
DESCENDANTS = [{1}, set(), set(), set()]


def build(name, **kwargs):
    return MODELS.build(
        dict(type=f'mmdet_imbalance.{name}', num_classes=5, reduction='none', **kwargs)
    )


def random_logits(rows, columns, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, columns, generator=gen, dtype=torch.float64)


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 6), classes=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_shared_target_follows_the_equation(rows, classes, seed):
    gen = torch.Generator().manual_seed(seed)
    logits = random_logits(rows, classes + 1, seed)
    sets = torch.rand(rows, classes, generator=gen) < 0.4
    weight = torch.rand(classes + 1, generator=gen, dtype=torch.float64)
    as_sets = [set(s.nonzero().flatten().tolist()) or {classes} for s in sets]
    for class_weight in (None, weight):
        loss = distributed_softmax_terms(logits, None, None, sets, None, class_weight)
        expected = shared_softmax_loop(
            logits.tolist(), as_sets, class_weight=class_weight
        )
        torch.testing.assert_close(loss.tolist(), [float(x) for x in expected])


def test_shared_target_equals_cross_entropy_with_soft_targets():
    logits = random_logits(6, 5).requires_grad_()
    sets = torch.tensor(
        [[1, 1, 0, 0], [0, 1, 1, 1], [0] * 4, [1] * 4, [0, 0, 0, 1], [0] * 4]
    )
    soft = F.pad(sets, (0, 1)).double()
    soft[soft.sum(1) == 0, -1] = 1
    soft = soft / soft.sum(1, keepdim=True)
    loss = distributed_softmax_terms(logits, None, None, sets.bool(), None, None)
    torch.testing.assert_close(loss, F.cross_entropy(logits, soft, reduction='none'))
    torch.autograd.gradcheck(
        lambda z: distributed_softmax_terms(z, None, None, sets.bool(), None, None),
        logits,
    )


def test_k_labels_cannot_be_learnt_below_log_k():
    logits = torch.tensor([[30.0, 30.0, 30.0, -30.0]])
    loss = distributed_softmax_terms(
        logits, None, None, torch.tensor([[True, True, True]]), None, None
    )
    torch.testing.assert_close(loss, torch.tensor([math.log(3.0)]))


def test_shared_target_with_a_hierarchy():
    loss = build('DistributedSoftmaxLoss', class_stats=demo_class_stats(5))
    logits = random_logits(4, 6).requires_grad_()
    expected = shared_softmax_loop(logits.tolist(), CLOSED, DESCENDANTS)
    torch.testing.assert_close(loss(logits, LABELS).tolist(), expected)
    torch.autograd.gradcheck(lambda z: loss(z, LABELS), logits)
    torch.testing.assert_close(loss.get_activation(logits), logits.softmax(1))


@pytest.mark.parametrize(
    ('name', 'gamma', 'alpha'),
    [('MultiLabelSigmoidLoss', 0.0, None), ('MultiLabelFocalLoss', 2.0, 0.25)],
)
def test_sigmoid_baselines_with_a_hierarchy(name, gamma, alpha):
    loss = build(name, class_stats=demo_class_stats(5))
    logits = random_logits(4, 5).requires_grad_()
    sets = [labels - {5} for labels in CLOSED]
    expected = focal_loop(logits.tolist(), sets, gamma, alpha, DESCENDANTS)
    torch.testing.assert_close(loss(logits, LABELS).tolist(), expected)
    torch.autograd.gradcheck(lambda z: loss(z, LABELS), logits)
    scores = loss.get_activation(logits)
    torch.testing.assert_close(scores[:, :-1], logits.sigmoid())
    assert (scores[:, -1] == 0).all()


@pytest.mark.parametrize(
    'name', ['DistributedSoftmaxLoss', 'MultiLabelSigmoidLoss', 'MultiLabelFocalLoss']
)
def test_explicit_labels_are_closed_and_forms_agree(name):
    loss = build(name, class_stats=demo_class_stats(5))
    logits = random_logits(4, loss.cls_channels)
    dense = torch.zeros(4, 5, dtype=torch.bool)
    dense[0, [1, 3]] = True  # Class 0 follows from 1.
    dense[2, 0] = True
    pos_inds = torch.tensor([2, 0])
    target = MultiLabelTarget(torch.tensor([1, 5, 0, 5]), pos_inds, dense[pos_inds])
    expected = loss(logits, dense)
    torch.testing.assert_close(loss(logits, target), expected)
    dense[0, 0] = True
    torch.testing.assert_close(loss(logits, dense), expected)


def test_focal_equals_the_hosts_on_labels():
    from mmdet.models.losses import FocalLoss

    logits = random_logits(9, 5).float()
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 5, 5, 0])
    theirs = FocalLoss(use_sigmoid=True, gamma=2.0, alpha=0.25)
    weight = torch.linspace(0, 1, 9)
    expected = theirs(logits, labels, weight, avg_factor=3.0)
    loss = build('MultiLabelFocalLoss')
    got = loss(logits, labels, weight, 3.0, 'mean')
    torch.testing.assert_close(got, expected)
