"""The two stateful losses against the host's where the host is right, and where not."""

import pytest
import torch
from mmdet.models.losses import EQLV2Loss
from mmdet.models.losses import SeesawLoss as HostSeesawLoss

from mmdet_imbalance.functional import effective_num_weights
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing import demo_class_stats

NUM_CLASSES = 4


def build(name, **kwargs):
    return MODELS.build(
        dict(type=f'mmdet_imbalance.{name}', num_classes=NUM_CLASSES, **kwargs)
    )


def batches(channels, num=4, rows=9):
    gen = torch.Generator().manual_seed(0)
    for _ in range(num):
        logits = 2 * torch.randn(rows, channels, generator=gen)
        yield logits, torch.randint(0, NUM_CLASSES + 1, (rows,), generator=gen)


def value_and_grad(loss, logits, labels, *args):
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels, *args)
    value = sum(value.values()) if isinstance(value, dict) else value
    value.backward()
    return value.detach(), logits.grad


def test_equalization_equals_the_host_over_iterations():
    ours = build('EqualizationLossV2')
    theirs = EQLV2Loss(num_classes=NUM_CLASSES)
    for logits, labels in batches(NUM_CLASSES + 1):
        got = value_and_grad(ours, logits, labels)
        expected = value_and_grad(theirs, logits, labels)
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(ours.pos_grad, theirs.pos_grad)
    torch.testing.assert_close(ours.neg_grad, theirs.neg_grad)
    assert ours.ratio.unique().numel() > 1


def test_equalization_predicts_with_the_sigmoid():
    loss = build('EqualizationLossV2')
    logits = torch.zeros(1, NUM_CLASSES + 1)
    # The host's scores would be a softmax here: 1/5.
    torch.testing.assert_close(
        loss.get_activation(logits), torch.tensor([[0.25] * NUM_CLASSES + [0.5]])
    )


def test_equalization_gradient_is_that_of_the_weights_held_constant():
    loss = build('EqualizationLossV2', reduction='sum').double()
    for logits, labels in batches(NUM_CLASSES + 1):
        loss(logits.double(), labels)
    loss.eval()
    torch.autograd.gradcheck(
        lambda z: loss(z, labels), logits.double().requires_grad_()
    )
    assert not loss.ratio.requires_grad


def test_seesaw_equals_the_host_over_iterations():
    ours = build('SeesawLoss')
    theirs = HostSeesawLoss(num_classes=NUM_CLASSES)
    for logits, labels in batches(NUM_CLASSES + 2):
        weight = torch.ones(len(labels))
        got = value_and_grad(ours, logits, labels, weight, 9.0)
        expected = value_and_grad(theirs, logits, labels, weight, 9.0)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(
            ours.get_activation(logits), theirs.get_activation(logits)
        )
    torch.testing.assert_close(ours.seen_count, theirs.cum_samples[:-1])


def test_seesaw_does_not_count_what_is_ignored():
    ours = build('SeesawLoss')
    theirs = HostSeesawLoss(num_classes=NUM_CLASSES)
    ((logits, labels),) = batches(NUM_CLASSES + 2, num=1)
    none = torch.zeros(len(labels))
    ours(logits, labels, none, 1.0)
    theirs(logits, labels, none, 1.0)
    assert ours.seen_count.sum() == 0
    assert theirs.cum_samples.sum() > 0


@pytest.mark.parametrize('name', ['EqualizationLossV2', 'SeesawLoss'])
def test_state_moves_in_training_only(name):
    loss = build(name)
    ((logits, labels),) = batches(loss.cls_channels, num=1)
    loss.eval()
    before = {k: v.clone() for k, v in loss.state_dict().items()}
    loss(logits, labels)
    torch.testing.assert_close(dict(loss.state_dict()), before)
    loss.train()
    loss(logits, labels)
    assert any((v != before[k]).any() for k, v in loss.state_dict().items())


@pytest.mark.parametrize('name', ['EqualizationLossV2', 'SeesawLoss'])
def test_class_weights_compose(name):
    stats = demo_class_stats(NUM_CLASSES)
    rule = dict(type='effective_num', beta=0.9)
    weighted = build(name, class_stats=stats, class_weight=rule, reduction='none')
    plain = build(name, reduction='none')
    weights = effective_num_weights(torch.as_tensor(stats.instance_count), 0.9)
    weights = torch.cat([weights, torch.ones(1)])
    for logits, labels in batches(plain.cls_channels):
        torch.testing.assert_close(
            weighted(logits, labels), weights[labels] * plain(logits, labels)
        )


@pytest.mark.parametrize('kwargs', [dict(p=-1.0), dict(q=-1.0), dict(eps=0.0)])
def test_bad_arguments_of_seesaw(kwargs):
    with pytest.raises(ValueError, match='`p` and `q`'):
        build('SeesawLoss', **kwargs)


@pytest.mark.parametrize('name', ['EqualizationLossV2', 'SeesawLoss'])
@pytest.mark.parametrize('has_positives', [True, False])
def test_every_rank_reaches_the_one_reduction(name, has_positives, monkeypatch):
    """Two ranks with the same batch: twice the counts, one collective a step."""
    import mmdet_imbalance.models.losses.equalization as equalization
    import mmdet_imbalance.models.losses.seesaw as seesaw

    calls = []

    def all_reduce(tensor):
        calls.append(tensor)
        tensor.mul_(2)

    alone = build(name)
    ((logits, labels),) = batches(alone.cls_channels, num=1)
    if not has_positives:
        labels = torch.full_like(labels, NUM_CLASSES)
    alone(logits, labels)
    for module in (equalization, seesaw):
        monkeypatch.setattr(module, 'all_reduce', all_reduce)
    together = build(name)
    together(logits, labels)
    assert len(calls) == 1
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[key], 2 * value)
