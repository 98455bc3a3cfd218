import pytest
import torch
import torch.nn.functional as F

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.models.losses.federated import FederatedLoss

C = 8


def stats(img_count):
    return ClassStats(
        class_names=[f'c{i}' for i in range(C)],
        img_count=img_count,
        instance_count=img_count,
        num_images=max(img_count),
    )


def test_judging_every_class_is_sigmoid_cross_entropy():
    logits = torch.randn(5, C)
    labels = torch.tensor([0, 3, C, 7, C])
    loss = FederatedLoss(C, num_sampled_classes=C, freq_exponent=0.0)
    target = F.one_hot(labels, C + 1)[:, :C].float()
    torch.testing.assert_close(
        loss(logits, labels, reduction_override='none'),
        F.binary_cross_entropy_with_logits(logits, target, reduction='none').sum(1),
    )


def test_shown_classes_are_always_judged_and_the_number_is_what_was_asked():
    loss = FederatedLoss(C, num_sampled_classes=4, freq_exponent=0.0)
    target = loss.partial_target(torch.tensor([1, 6, 6, C]))
    for _ in range(20):
        judged = loss.judged_classes(target)
        assert judged[1]
        assert judged[6]
        assert judged.sum() == 4
    everything = loss.partial_target(torch.arange(C))
    assert loss.judged_classes(everything).sum() == C


def test_others_are_drawn_by_a_power_of_their_image_count():
    counts = [0, 1, 4, 16, 64, 1, 1, 100]
    loss = FederatedLoss(C, num_sampled_classes=2, class_stats=stats(counts))
    shown = loss.partial_target(torch.tensor([7]))
    torch.manual_seed(0)
    draws = 6000
    drawn = sum(loss.judged_classes(shown).int() for _ in range(draws))
    assert drawn[7] == draws
    assert drawn[0] == 0
    want = torch.tensor(counts[:7]).sqrt() / torch.tensor(counts[:7]).sqrt().sum()
    expected, observed = want[1:] * draws, drawn[1:7]
    # Chi-square with 5 degrees of freedom: 20.5 is exceeded once in a thousand.
    assert ((observed - expected) ** 2 / expected).sum() < 20.5


def test_classes_that_are_not_judged_and_descendants_have_no_gradient():
    matrix = torch.eye(C).bool()
    matrix[1, 0] = True
    tree = stats([5] * C)
    tree.ancestor_matrix = matrix.numpy()
    loss = FederatedLoss(C, num_sampled_classes=1, class_stats=tree)
    logits = torch.randn(3, C, requires_grad=True)
    loss(logits, torch.tensor([0, C, C])).backward()
    assert (logits.grad[:, 2:] == 0).all()
    assert logits.grad[0, 1] == 0
    assert (logits.grad[:, 0] != 0).all()


def test_statistics_are_asked_for():
    with pytest.raises(RuntimeError, match='ClassStatsHook'):
        FederatedLoss(C)(torch.zeros(1, C), torch.tensor([0]))


@pytest.mark.parametrize(
    'kwargs', [dict(num_sampled_classes=0), dict(freq_exponent=-1)]
)
def test_bad_arguments_are_refused(kwargs):
    with pytest.raises(ValueError, match='at least'):
        FederatedLoss(C, **kwargs)
