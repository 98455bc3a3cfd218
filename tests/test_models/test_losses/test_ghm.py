"""GHM losses: the paper's average, the moving average, the host's call."""

from types import SimpleNamespace

import pytest
import torch

from mmdet_imbalance.core.ghm import ghm_c_loss, ghm_r_loss
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.models.losses import GHMClassificationLoss, GHMRegressionLoss

C = 5


def rows(num=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num, C, generator=generator)
    labels = torch.randint(C + 1, (num,), generator=generator)
    weight = (torch.rand(num, generator=generator) < 0.7).float()
    return logits, labels, weight


def one_hot(labels):
    return torch.nn.functional.one_hot(labels, C + 1)[:, :C]


@pytest.mark.parametrize('normalize_by', ['bins', 'nonempty_bins'])
def test_mean_is_the_pure_function_over_valid_rows(normalize_by):
    logits, labels, weight = rows()
    loss = GHMClassificationLoss(C, momentum=0.0, normalize_by=normalize_by)
    valid = (weight > 0)[:, None].expand(-1, C)
    expected, _ = ghm_c_loss(logits, one_hot(labels), valid, 30, normalize_by)
    torch.testing.assert_close(loss(logits, labels, weight), expected)


def test_reductions_and_avg_factor_agree():
    logits, labels, weight = rows()
    weight = weight * 2.5
    loss = GHMClassificationLoss(C, momentum=0.0, loss_weight=3.0)
    each = loss(logits, labels, weight, reduction_override='none')
    assert each.shape == (40,)
    torch.testing.assert_close(
        loss(logits, labels, weight, reduction_override='sum'), each.sum()
    )
    torch.testing.assert_close(loss(logits, labels, weight), each.mean())
    torch.testing.assert_close(
        loss(logits, labels, weight, avg_factor=7.0), each.sum() / 7
    )


def test_first_iteration_with_momentum_is_that_without():
    logits, labels, _ = rows()
    smooth = GHMClassificationLoss(C, momentum=0.75)
    plain = GHMClassificationLoss(C, momentum=0.0)
    torch.testing.assert_close(smooth(logits, labels), plain(logits, labels))


def test_moving_average_follows_the_formula():
    loss = GHMClassificationLoss(1, num_bins=2, momentum=0.5)
    low, high = torch.tensor([[-3.0]]), torch.tensor([[3.0]])
    background = torch.ones(4).long()
    loss(torch.cat([low, low, low, high]), background)
    loss(torch.cat([low, high, high, high]), background)
    # S: 0.5 * 3 = 1.5 then 0.5 * 1.5 + 0.5 * 1 = 1.25; corrected by 1 - 0.5 ** 2.
    torch.testing.assert_close(loss.density.bin_count, torch.tensor([1.25, 1.75]))
    smoothed = loss.density.bin_count / 0.75
    weights, _ = loss.eval().density(torch.tensor([0.1, 0.9, 0.9]), None)
    expected = 3 / (2 * smoothed)
    torch.testing.assert_close(weights, expected[[0, 1, 1]])


def test_state_changes_in_training_only_and_survives_a_checkpoint():
    logits, labels, _ = rows()
    loss = GHMClassificationLoss(C)
    loss(logits, labels)
    other = GHMClassificationLoss(C)
    other.load_state_dict(loss.state_dict())
    before = other.density.bin_count.clone()
    other.eval()(logits, labels)
    assert torch.equal(other.density.bin_count, before)
    torch.testing.assert_close(
        other(2 * logits, labels), loss.eval()(2 * logits, labels)
    )
    stateless = GHMClassificationLoss(C, momentum=0.0)
    assert not [key for key in stateless.state_dict() if 'density' in key]


def test_a_bin_first_filled_in_evaluation_weighs_finitely():
    loss = GHMClassificationLoss(1)
    loss(torch.full((5, 1), -5.0), torch.ones(5).long())
    value = loss.eval()(torch.full((5, 1), 5.0), torch.ones(5).long())
    assert value.isfinite()


def test_density_over_one_batch_is_not_the_sum_over_its_parts():
    # Why the dense head takes all levels at once.
    logits, labels, _ = rows()
    loss = GHMClassificationLoss(C, momentum=0.0)
    whole = loss(logits, labels, reduction_override='sum')
    parts = sum(
        loss(logits[part], labels[part], reduction_override='sum')
        for part in (slice(0, 5), slice(5, 40))
    )
    assert abs(whole - parts) > 1e-2


def test_label_sets_are_a_multi_hot_target():
    logits, _, _ = rows(6)
    labels = torch.tensor([0, 5, 2, 5, 5, 1])
    sets = torch.zeros(3, C, dtype=torch.bool)
    sets[0, [0, 3]] = sets[1, [2]] = sets[2, [1, 2, 4]] = True
    target = MultiLabelTarget(labels, torch.tensor([0, 2, 5]), sets)
    dense = torch.zeros(6, C)
    dense[[0, 2, 5]] = sets.float()
    loss = GHMClassificationLoss(C, momentum=0.0)
    expected, _ = ghm_c_loss(logits, dense)
    torch.testing.assert_close(loss(logits, target), expected)
    torch.testing.assert_close(loss(logits, dense), expected)


def stats_like():
    ancestors = torch.eye(C, dtype=torch.bool)
    ancestors[1, 0] = ancestors[2, 0] = ancestors[2, 1] = True
    counts = torch.tensor([9, 8, 7, 6, 5]).numpy()
    return SimpleNamespace(
        img_count=counts, instance_count=counts, ancestor_matrix=ancestors.numpy()
    )


def test_ancestors_are_positive_and_descendants_are_no_terms():
    logits, _, _ = rows(3)
    labels = torch.tensor([1, 3, 5])
    loss = GHMClassificationLoss(C, momentum=0.0)
    loss.set_class_stats(stats_like())
    dense = torch.zeros(3, C)
    dense[0, [0, 1]] = 1
    dense[1, 3] = 1
    valid = torch.ones(3, C, dtype=torch.bool)
    valid[0, 2] = False
    expected, _ = ghm_c_loss(logits, dense, valid)
    torch.testing.assert_close(loss(logits, labels), expected)
    sets = torch.zeros(2, C, dtype=torch.bool)
    sets[0, 1] = sets[1, 3] = True
    target = MultiLabelTarget(labels, torch.tensor([0, 1]), sets)
    torch.testing.assert_close(loss(logits, target), expected)
    plain = torch.zeros(3, C)
    plain[0, 1] = plain[1, 3] = 1
    torch.testing.assert_close(loss(logits, plain), expected)


def test_a_head_that_divides_by_positives_is_warned_of():
    logits, labels, _ = rows(2000)
    loss = GHMClassificationLoss(C)
    with pytest.warns(UserWarning, match='ignore_avg_factor'):
        loss(logits, labels, avg_factor=20.0)
    loss = GHMClassificationLoss(C, momentum=0.0, ignore_avg_factor=True)
    torch.testing.assert_close(
        loss(logits, labels, avg_factor=20.0), loss(logits, labels)
    )


def test_ignored_rows_with_inf_logits_are_invisible():
    logits, labels, _ = rows()
    junk = torch.tensor([[torch.inf, -torch.inf, torch.nan, 0.0, 1.0]])
    longer = torch.cat([logits, junk]).requires_grad_()
    weight = torch.cat([torch.ones(40), torch.zeros(1)])
    loss = GHMClassificationLoss(C, momentum=0.0)
    value = loss(longer, torch.cat([labels, labels[:1]]), weight)
    torch.testing.assert_close(value, loss(logits, labels))
    value.backward()
    assert (longer.grad[-1] == 0).all()


def test_regression_mean_is_the_pure_function():
    pred, target = torch.randn(20, 4), torch.randn(20, 4)
    weight = (torch.rand(20, 4) < 0.5).float()
    loss = GHMRegressionLoss(momentum=0.0, loss_weight=10.0)
    expected, _ = ghm_r_loss(pred, target, weight > 0)
    torch.testing.assert_close(loss(pred, target, weight), 10 * expected)
    each = loss(pred, target, weight, reduction_override='none')
    assert each.shape == (20, 4)
    torch.testing.assert_close(
        loss(pred, target, weight, reduction_override='sum'), each.sum()
    )
    torch.testing.assert_close(
        loss(pred, target, weight, avg_factor=9.0), each.sum() / 9
    )
    same = GHMRegressionLoss(momentum=0.0, loss_weight=10.0, ignore_avg_factor=True)
    torch.testing.assert_close(
        same(pred, target, weight, avg_factor=9.0), 10 * expected
    )


def test_regression_of_nothing_is_a_zero_on_the_graph():
    pred = torch.zeros(0, 4, requires_grad=True)
    GHMRegressionLoss()(pred, torch.zeros(0, 4), torch.zeros(0, 4)).backward()
    assert pred.grad.shape == (0, 4)


@pytest.mark.parametrize(
    ('arguments', 'name'),
    [
        (dict(num_bins=0), 'num_bins'),
        (dict(momentum=1.0), 'momentum'),
        (dict(normalize_by='all'), 'normalize_by'),
        (dict(reduction='avg'), 'reduction'),
        (dict(use_sigmoid=False), 'use_sigmoid'),
    ],
)
def test_wrong_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        GHMClassificationLoss(C, **arguments)


def test_compiles_without_a_break():
    logits, labels, weight = rows()
    loss = GHMClassificationLoss(C, momentum=0.5)
    other = GHMClassificationLoss(C, momentum=0.5)
    torch._dynamo.reset()
    compiled = torch.compile(other, fullgraph=True, backend='eager')
    for _ in range(2):
        torch.testing.assert_close(
            compiled(logits, labels, weight), loss(logits, labels, weight)
        )
    torch.testing.assert_close(other.density.bin_count, loss.density.bin_count)


def run_rank(rank, world_size, path, results):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{path}', rank=rank, world_size=world_size
    )
    logits, labels, _ = rows()
    # Unequal work: the second rank has no positives at all.
    labels[20:] = C
    part = slice(20 * rank, 20 * rank + 20)
    logits = logits.requires_grad_()
    loss = GHMClassificationLoss(C, momentum=0.75)
    value = loss(logits[part], labels[part])
    value.backward()
    results[rank] = (
        value.item(),
        logits.grad.tolist(),
        loss.density.bin_count.tolist(),
    )
    torch.distributed.destroy_process_group()


def test_two_ranks_are_one_large_batch(tmp_path):
    manager = torch.multiprocessing.Manager()
    results = manager.dict()
    torch.multiprocessing.spawn(
        run_rank, args=(2, tmp_path / 'store', results), nprocs=2
    )
    logits, labels, _ = rows()
    labels[20:] = C
    logits = logits.requires_grad_()
    whole = GHMClassificationLoss(C, momentum=0.75)
    value = whole(logits, labels)
    value.backward()
    values, grads, counts = zip(results[0], results[1], strict=True)
    assert sum(values) / 2 == pytest.approx(value.item(), rel=1e-5)
    # The host's wrapper averages gradients over ranks.
    torch.testing.assert_close(
        (torch.tensor(grads[0]) + torch.tensor(grads[1])) / 2, logits.grad
    )
    assert counts[0] == counts[1]
    torch.testing.assert_close(2 * torch.tensor(counts[0]), whole.density.bin_count)
