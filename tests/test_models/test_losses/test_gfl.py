"""GFL losses: forms of target, class weights, and the host's call."""

from types import SimpleNamespace

import pytest
import torch

from mmdet_imbalance.core.gfl import distribution_focal_loss, quality_focal_loss
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.models.losses import DistributionFocalLoss, QualityFocalLoss

C = 5


def rows(num=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num, C, generator=generator)
    labels = torch.randint(C + 1, (num,), generator=generator)
    quality = torch.rand(num, generator=generator)
    weight = (torch.rand(num, generator=generator) < 0.7).float()
    return logits, labels, quality, weight


def test_equals_the_pure_function_and_honours_every_reduction():
    logits, labels, quality, weight = rows()
    loss = QualityFocalLoss(C, loss_weight=2.0)
    each = 2 * quality_focal_loss(logits, labels, quality) * weight
    target = (labels, quality)
    torch.testing.assert_close(
        loss(logits, target, weight, reduction_override='none'), each
    )
    torch.testing.assert_close(loss(logits, target, weight), each.mean())
    torch.testing.assert_close(
        loss(logits, target, weight, avg_factor=4.0), each.sum() / 4
    )


def test_labels_without_a_quality_are_of_quality_one():
    logits, labels, _, _ = rows()
    loss = QualityFocalLoss(C)
    torch.testing.assert_close(
        loss(logits, labels), loss(logits, (labels, torch.ones(30)))
    )


def test_label_sets_share_the_quality_of_the_row():
    logits, _, quality, _ = rows(4)
    labels = torch.tensor([0, 5, 2, 5])
    sets = torch.zeros(2, C, dtype=torch.bool)
    sets[0, [0, 3]] = sets[1, [2]] = True
    dense = torch.zeros(4, C)
    dense[[0, 2]] = sets.float()
    loss = QualityFocalLoss(C)
    target = MultiLabelTarget(labels, torch.tensor([0, 2]), sets)
    expected = quality_focal_loss(logits, dense, quality)
    torch.testing.assert_close(
        loss(logits, (target, quality), reduction_override='none'), expected
    )
    torch.testing.assert_close(
        loss(logits, (dense, quality), reduction_override='none'), expected
    )


def test_ancestors_share_the_quality_and_descendants_are_no_terms():
    ancestors = torch.eye(C, dtype=torch.bool)
    ancestors[1, 0] = ancestors[2, 0] = ancestors[2, 1] = True
    counts = torch.arange(5, 0, -1).numpy()
    stats = SimpleNamespace(
        img_count=counts, instance_count=counts, ancestor_matrix=ancestors.numpy()
    )
    logits, _, quality, _ = rows(1)
    loss = QualityFocalLoss(C)
    loss.set_class_stats(stats)
    valid = torch.tensor([[True, True, False, True, True]])
    torch.testing.assert_close(
        loss(logits, (torch.tensor([1]), quality)),
        quality_focal_loss(
            logits, torch.tensor([[1, 1, 0, 0, 0]]), quality, valid=valid
        ).mean(),
    )


def test_class_weights_multiply_rows():
    logits, labels, quality, _ = rows()
    class_weight = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1])
    loss = QualityFocalLoss(C, class_weight=class_weight.tolist())
    per_row = torch.cat([class_weight, torch.ones(1)])[labels]
    torch.testing.assert_close(
        loss(logits, (labels, quality), reduction_override='none'),
        per_row * quality_focal_loss(logits, labels, quality),
    )


def test_ignored_rows_are_invisible_whatever_their_quality():
    logits, labels, quality, _ = rows(6)
    weight = torch.tensor([1.0, 1, 0, 1, 1, 1])
    loss = QualityFocalLoss(C)
    clean = loss(logits, (labels, quality), weight)
    logits, quality = logits.clone(), quality.clone()
    logits[2], quality[2] = torch.inf, torch.nan
    logits.requires_grad_()
    dirty = loss(logits, (labels, quality), weight)
    torch.testing.assert_close(dirty, clean)
    dirty.backward()
    assert (logits.grad[2] == 0).all()


def test_accuracy_reads_the_labels_of_the_pair():
    logits = torch.eye(C)
    labels = torch.tensor([0, 1, 2, 4, 5])
    accuracy = QualityFocalLoss(C).get_accuracy(logits, (labels, torch.ones(5)))
    assert accuracy['acc_classes'].item() == pytest.approx(75.0)


def test_wrong_targets_are_named():
    logits, labels, quality, _ = rows()
    with pytest.raises(ValueError, match='`quality`'):
        QualityFocalLoss(C)(logits, (labels, quality[:3]))
    with pytest.raises(ValueError, match='pair'):
        QualityFocalLoss(C)(logits, (labels, quality, quality))
    with pytest.raises(ValueError, match='`beta`'):
        QualityFocalLoss(C, beta=-1)


def test_distribution_loss_is_the_pure_function_under_the_hosts_call():
    logits, target, weight = torch.randn(12, 9), 8 * torch.rand(12), torch.rand(12)
    loss = DistributionFocalLoss(loss_weight=0.25)
    each = 0.25 * distribution_focal_loss(logits, target) * weight
    torch.testing.assert_close(
        loss(logits, target, weight=weight, avg_factor=4.0), each.sum() / 4
    )
    torch.testing.assert_close(
        loss(logits, target, weight, reduction_override='none'), each
    )


def test_ignored_distributions_are_invisible():
    logits = torch.randn(3, 9)
    logits[1] = torch.nan
    target = torch.tensor([1.5, torch.nan, 3.0])
    weight = torch.tensor([1.0, 0.0, 1.0])
    logits.requires_grad_()
    value = DistributionFocalLoss()(logits, target, weight, reduction_override='sum')
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_compiles_without_a_break():
    logits, labels, quality, _ = rows()
    loss = QualityFocalLoss(C)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend='eager')
    torch.testing.assert_close(
        compiled(logits, (labels, quality)), loss(logits, (labels, quality))
    )
