"""Every registered classification loss through one battery of promises."""

import pytest
import torch

import mmdet_imbalance.models  # noqa: F401
from mmdet_imbalance.models.losses.base import ClassificationLoss
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing import contracts

LOSSES = {
    name: cls
    for name, cls in sorted(MODELS.module_dict.items())
    if issubclass(cls, ClassificationLoss)
}


def test_the_registry_was_found():
    assert {'ConcurrentSoftmaxLoss', 'ClassBalancedFocalLoss'} <= set(LOSSES)


@pytest.mark.parametrize('check', contracts.QUICK_CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize('name', LOSSES)
def test_contract(name, check):
    check(LOSSES[name])


@pytest.mark.parametrize('name', LOSSES)
def test_no_graph_break(name):
    contracts.check_no_graph_break(LOSSES[name], backend='eager')


class Broken(ClassificationLoss):
    """Right in everything but one promise at a time."""

    def row_loss(self, logits, target):
        return torch.nn.functional.cross_entropy(logits, target, reduction='none')

    def scores(self, logits):
        return logits.softmax(dim=1)


class _IgnoresWeight(Broken):
    def forward(self, cls_score, target, *args):
        return super().forward(cls_score, target)


class _NeedsOrder(Broken):
    def row_loss(self, logits, target):
        return super().row_loss(logits, target).cumsum(0)


class _PrefersClassZero(Broken):
    def row_loss(self, logits, target):
        return super().row_loss(logits, target) * (1.0 + (target == 0))


class _LeavesGraph(Broken):
    def row_loss(self, logits, target):
        if len(logits) == 0:
            return logits.new_zeros(0)
        return super().row_loss(logits, target)


class _Forgets(Broken):
    def row_loss(self, logits, target):
        self.seen = getattr(self, 'seen', 0) + 1
        return super().row_loss(logits, target) * self.seen


class _BreaksGraph(Broken):
    def row_loss(self, logits, target):
        return super().row_loss(logits, target) * (2.0 if logits.sum() > 0 else 1.0)


class _Overflows(Broken):
    def row_loss(self, logits, target):
        own = logits.gather(1, target[:, None]).squeeze(1)
        return logits.exp().sum(dim=1).log() - own


class _Swallows(Broken):
    def __init__(self, num_classes, no_such_argument=None, **kwargs):
        super().__init__(num_classes, **kwargs)


def test_the_plain_loss_passes():
    contracts.check_classification_loss(Broken)


@pytest.mark.parametrize(
    ('loss', 'check'),
    [
        (_IgnoresWeight, contracts.check_reductions),
        (_IgnoresWeight, contracts.check_all_ignored),
        (_NeedsOrder, contracts.check_row_permutation),
        (_PrefersClassZero, contracts.check_class_permutation),
        (_Forgets, contracts.check_state_dict),
        (_Overflows, contracts.check_extreme_logits),
        (_Swallows, contracts.check_unknown_argument),
    ],
)
def test_each_check_can_fail(loss, check):
    with pytest.raises((AssertionError, TypeError)):
        check(loss)


def test_graph_checks_can_fail():
    with pytest.raises(RuntimeError):
        contracts.check_empty(_LeavesGraph)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        contracts.check_no_graph_break(_BreaksGraph, backend='eager')
