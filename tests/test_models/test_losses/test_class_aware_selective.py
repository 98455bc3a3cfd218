from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_prior import LabelPrior
from mmdet_imbalance.functional import class_aware_ignore, partial_asymmetric_loss
from mmdet_imbalance.models.losses import class_aware_selective as module
from mmdet_imbalance.models.losses.class_aware_selective import (
    MODES,
    ClassAwareSelectiveLoss,
)

C = 6


def batch(seed=0, num=8):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, C, generator=generator)
    target = torch.randint(-1, 2, (num, C), generator=generator).to(torch.int8)
    return logits, target


def tree_stats():
    """Classes 0 > 1 > 2, and three without relatives."""
    matrix = torch.eye(C).bool()
    matrix[1, 0] = matrix[2, 0] = matrix[2, 1] = True
    return ClassStats(
        class_names=[f'c{i}' for i in range(C)],
        img_count=[9] * C,
        instance_count=[9] * C,
        num_images=9,
        ancestor_matrix=matrix.numpy(),
    )


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('gammas', [(0.5, 1.0, 3.0), (0.0, 1.0, 2.0)])
@pytest.mark.parametrize('clip', [0.0, 0.3])
@pytest.mark.parametrize('detach_focal', [False, True])
def test_modes_are_weights_of_the_unannotated(mode, gammas, clip, detach_focal):
    logits, target = batch()
    logits.requires_grad_()
    loss = ClassAwareSelectiveLoss(
        C,
        mode,
        *gammas,
        top_k=2,
        clip=clip,
        detach_focal=detach_focal,
    )
    weight = {
        'negative': torch.ones(8, C),
        'selective': (~class_aware_ignore(logits, target, 2)).float(),
    }.get(mode, torch.zeros(8, C))
    want = partial_asymmetric_loss(
        logits, target, *gammas, weight, detach_focal, clip
    ).sum(1)
    if mode == 'ignore_normalized':
        want = want / (target != -1).sum(1).clamp(min=1)
    got = loss(logits, target, reduction_override='none')
    torch.testing.assert_close(got, want)
    got_grad, want_grad = (
        torch.autograd.grad(each.sum(), logits)[0] for each in (got, want)
    )
    torch.testing.assert_close(got_grad, want_grad)


def test_plain_labels_without_focusing_are_bce():
    logits, _ = batch()
    labels = torch.arange(8) % (C + 1)
    loss = ClassAwareSelectiveLoss(C, gamma_neg=0.0)
    one_hot = F.one_hot(labels, C + 1)[:, :C].float()
    torch.testing.assert_close(
        loss(logits, labels, avg_factor=5.0),
        F.binary_cross_entropy_with_logits(logits, one_hot, reduction='sum') / 5.0,
    )


def test_descendants_of_a_label_are_unannotated():
    loss = ClassAwareSelectiveLoss(C, class_stats=tree_stats())
    got = loss.partial_target(torch.tensor([1, 0, 2, 5, C]))
    assert got.dtype == torch.int8
    assert got.tolist() == [
        [1, 1, -1, 0, 0, 0],
        [1, -1, -1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
        [0] * C,
    ]


def test_prior_ignores_classes_only_where_unannotated(tmp_path):
    prior = LabelPrior([f'c{i}' for i in range(C)], [0.9, 0.0, 0.0, 0.6, 0.1, 0.0], 40)
    prior.save(tmp_path / 'prior.json')
    assert prior.ignored(0.5) == ['c0', 'c3']
    logits, target = batch()
    loss = ClassAwareSelectiveLoss(
        C, top_k=0, prior=tmp_path / 'prior.json', prior_thr=0.5
    )
    weight = torch.ones(C)
    weight[[0, 3]] = 0.0
    torch.testing.assert_close(
        loss(logits, target, reduction_override='none'),
        partial_asymmetric_loss(logits, target, 0, 1, 2, weight).sum(1),
    )


@pytest.mark.parametrize('scope', ['sample', 'batch'])
def test_ignored_rows_take_nobodys_place(scope):
    logits, target = batch()
    weight = torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1])
    kept = weight > 0
    kwargs = dict(scope=scope, top_k=1, reduction='sum')
    whole = ClassAwareSelectiveLoss(C, **kwargs)
    logits[~kept] = 9.0
    torch.testing.assert_close(
        whole(logits, target, weight),
        ClassAwareSelectiveLoss(C, **kwargs)(logits[kept], target[kept]),
    )
    tracked = ClassAwareSelectiveLoss(C, mode='ignore', track_prior=True)
    tracked(logits, target, weight)
    assert tracked.prior_rows == (target[kept] == 1).any(1).sum()


def test_the_start_says_what_the_prior_ignores():
    with patch.object(module, 'print_log') as log:
        ClassAwareSelectiveLoss(C, prior=[0.9, 0, 0, 0.6, 0.1, 0], prior_thr=0.5)
    assert 'ignores 2 of 6 classes: class 0, class 3' in log.call_args.args[0]


def test_a_prior_without_effect_is_refused():
    for mode in ('ignore', 'negative', 'ignore_normalized'):
        with pytest.raises(ValueError, match=f"mode='{mode}'"):
            ClassAwareSelectiveLoss(C, mode=mode, prior=[0.1] * C)


def test_a_prior_of_other_classes_is_noticed(tmp_path):
    names = [f'c{i}' for i in range(C)]
    LabelPrior(names, [0.1] * C, 4).save(tmp_path / 'right.json')
    LabelPrior(names[::-1], [0.1] * C, 4).save(tmp_path / 'wrong.json')
    loss = ClassAwareSelectiveLoss(C, prior=tmp_path / 'right.json')
    loss.set_class_stats(tree_stats())
    loss = ClassAwareSelectiveLoss(C, prior=tmp_path / 'wrong.json')
    with pytest.raises(ValueError, match='another order'):
        loss.set_class_stats(tree_stats())


def test_tracked_prior_is_the_mean_over_foreground_rows():
    loss = ClassAwareSelectiveLoss(C, mode='ignore', track_prior=True)
    total, rows = torch.zeros(C), 0
    for seed in range(3):
        logits, target = batch(seed)
        target[0] = 0
        weight = torch.ones(8)
        loss(logits, target, weight)
        foreground = [n for n in range(8) if (target[n] == 1).any()]
        total += logits[foreground].sigmoid().sum(0)
        rows += len(foreground)
    torch.testing.assert_close(loss.prior_sum, total)
    assert loss.prior_rows == rows
    loss.eval()
    loss(*batch(4))
    assert loss.prior_rows == rows


def test_prior_files_of_something_else_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='LabelPriorHook'):
        ClassAwareSelectiveLoss(C, prior=tmp_path / 'no.json')
    file = tmp_path / 'prior.json'
    file.write_text('{"format": "other"}')
    with pytest.raises(ValueError, match='not a file of label priors'):
        LabelPrior.load(file)
    LabelPrior(['a', 'b'], [0.1, 0.2], 3).save(file)
    with pytest.raises(ValueError, match='another dataset'):
        ClassAwareSelectiveLoss(C, prior=file)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(mode='other'),
        dict(scope='image'),
        dict(top_k=-1),
        dict(gamma_neg=-1.0),
        dict(clip=1.0),
    ],
)
def test_bad_arguments_are_refused(kwargs):
    with pytest.raises(ValueError, match='must be'):
        ClassAwareSelectiveLoss(C, **kwargs)


def test_a_partial_target_of_another_width_is_refused():
    loss = ClassAwareSelectiveLoss(C)
    with pytest.raises(ValueError, match=r'\(N, 6\)'):
        loss(torch.zeros(2, C), torch.zeros(2, C + 1, dtype=torch.int8))
