import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.partial_labels import PartialTarget
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


def judged_in(loss, target):
    """Classes judged in a minibatch of one image, fully annotated, bool (C,)."""
    shown, verified = (target == 1).any(0, True), (target == 0).any(0, True)
    return loss.judged_classes(shown, verified)[0]


def test_shown_classes_are_always_judged_and_the_number_is_what_was_asked():
    loss = FederatedLoss(C, num_sampled_classes=4, freq_exponent=0.0)
    target = loss.partial_target(torch.tensor([1, 6, 6, C]))
    for _ in range(20):
        judged = judged_in(loss, target)
        assert judged[1]
        assert judged[6]
        assert judged.sum() == 4
    everything = loss.partial_target(torch.arange(C))
    assert judged_in(loss, everything).sum() == C


def test_others_are_drawn_by_a_power_of_their_image_count():
    counts = [0, 1, 4, 16, 64, 1, 1, 100]
    loss = FederatedLoss(C, num_sampled_classes=2, class_stats=stats(counts))
    shown = loss.partial_target(torch.tensor([7]))
    torch.manual_seed(0)
    draws = 6000
    drawn = sum(judged_in(loss, shown).int() for _ in range(draws))
    assert drawn[7] == draws
    assert drawn[0] == 0
    want = torch.tensor(counts[:7]).sqrt() / torch.tensor(counts[:7]).sqrt().sum()
    expected, observed = want[1:] * draws, drawn[1:7]
    # Chi-square with 5 degrees of freedom: 20.5 is exceeded once in a thousand.
    assert ((observed - expected) ** 2 / expected).sum() < 20.5


def partial(rows, image_ids):
    values = torch.tensor(rows, dtype=torch.int8)
    return PartialTarget(values, torch.tensor(image_ids), max(image_ids) + 1)


def judged_loop(loss, target, drawn):
    """Entries that count, by sets; `drawn[i]` are the classes judged in image i."""
    values, images = target.values.tolist(), target.image_ids.tolist()
    ancestors = loss.ancestors
    parents = [
        {a for a in range(C) if ancestors is not None and ancestors[c, a] and a != c}
        for c in range(C)
    ]
    shown = [
        {
            c
            for n, i in enumerate(images)
            if i == b
            for c in range(C)
            if values[n][c] == 1
        }
        for b in range(target.num_images)
    ]
    rows = []
    for row, image in zip(values, images, strict=True):
        positives = {c for c in range(C) if row[c] == 1}
        specific = {c for c in positives if not any(c in parents[p] for p in positives)}
        entries = []
        for c in range(C):
            open_question = c in shown[image] or parents[c] & specific
            entries.append(
                c in positives
                or (
                    c in drawn[image]
                    and (
                        row[c] == 0
                        or (loss.unannotated == 'negative' and not open_question)
                    )
                )
            )
        rows.append([bool(e) for e in entries])
    return rows


def tree():
    """Classes 0 > 1 > 2, the others without relatives."""
    matrix = torch.eye(C).bool()
    matrix[1, 0] = matrix[2, 0] = matrix[2, 1] = True
    counted = stats([5] * C)
    counted.ancestor_matrix = matrix.numpy()
    return counted


@pytest.mark.parametrize('scope', ['batch', 'image'])
@pytest.mark.parametrize('unannotated', ['negative', 'ignore'])
def test_judged_entries_equal_the_sets(scope, unannotated):
    loss = FederatedLoss(
        C,
        num_sampled_classes=5,
        scope=scope,
        unannotated=unannotated,
        class_stats=tree(),
    )
    generator = torch.Generator().manual_seed(3)
    for _ in range(10):
        # A quarter positive, so that images leave classes open.
        values = torch.randint(-2, 2, (7, C), generator=generator).clamp(min=-1)
        images = torch.tensor([0, 0, 1, 1, 1, 2, 2])
        target = PartialTarget(values.to(torch.int8), images, 3)
        state = torch.get_rng_state()
        got = loss.judged_entries(*target)
        torch.set_rng_state(state)
        positive, negative = target.values == 1, target.values == 0
        groups = images if scope == 'image' else torch.zeros_like(images)
        shown, verified = (
            torch.stack([e[groups == g].any(0) for g in groups.unique()])
            for e in (positive, negative)
        )
        judged = loss.judged_classes(shown, verified)
        drawn = [
            set(judged[g if scope == 'image' else 0].nonzero().flatten().tolist())
            for g in range(3)
        ]
        assert got.tolist() == judged_loop(loss, target, drawn)


def test_each_image_judges_what_it_shows_and_its_verified_classes_first():
    loss = FederatedLoss(C, num_sampled_classes=3, scope='image', freq_exponent=0.0)
    target = partial(
        [[1, -1, 0, -1, -1, -1, -1, -1], [-1, -1, -1, -1, 0, 0, 0, -1]], [0, 1]
    )
    third = set()
    for _ in range(40):
        first, second = loss.judged_entries(*target)
        assert first[0]
        assert first[2]
        assert first.sum() == 3
        third |= set(first.nonzero().flatten().tolist())
        assert second.nonzero().flatten().tolist() == [4, 5, 6]
    # The room that the verified leave goes to any other class.
    assert third == set(range(C))


def test_a_class_that_is_not_exhaustive_is_left_out_of_its_image_only():
    loss = FederatedLoss(C, num_sampled_classes=C, freq_exponent=0.0)
    target = partial([[1, *[0] * 7], [-1, *[0] * 7], [-1, *[0] * 7]], [0, 0, 1])
    judged = loss.judged_entries(*target)
    assert judged[:, 0].tolist() == [True, False, True]
    assert judged[:, 1:].all()


def test_ignored_rows_have_no_say_in_what_is_judged():
    loss = FederatedLoss(C, num_sampled_classes=1, freq_exponent=0.0)
    values = torch.zeros(2, C, dtype=torch.int8)
    values[0, 2] = values[1, 6] = 1
    logits = torch.randn(2, C, requires_grad=True)
    loss(logits, values, torch.tensor([1.0, 0.0])).backward()
    assert (logits.grad[0] != 0).nonzero().flatten().tolist() == [2]
    assert (logits.grad[1] == 0).all()


def test_the_image_of_each_row_is_asked_for():
    loss = FederatedLoss(C, freq_exponent=0.0, scope='image')
    with pytest.raises(ValueError, match='ImbalanceRoIHead'):
        loss(torch.zeros(2, C), torch.tensor([0, C]))


def test_classes_that_are_not_judged_and_descendants_have_no_gradient():
    loss = FederatedLoss(C, num_sampled_classes=1, class_stats=tree())
    logits = torch.randn(3, C, requires_grad=True)
    loss(logits, torch.tensor([0, C, C])).backward()
    assert (logits.grad[:, 1:] == 0).all()
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


def test_an_inner_class_is_drawn_by_the_images_of_its_descendants():
    count = np.array([0] + [9] * (C - 1))
    ancestors = np.eye(C, dtype=bool)
    ancestors[:, 0] = True
    found = ClassStats(
        class_names=[f'c{i}' for i in range(C)],
        img_count=count,
        instance_count=count,
        num_images=80,
        ancestor_matrix=ancestors,
        expanded_img_count=np.array([63] + [9] * (C - 1)),
        expanded_instance_count=np.array([63] + [9] * (C - 1)),
    )
    assert FederatedLoss(C, class_stats=found).img_count.tolist() == [63.0] + [9.0] * 7
    flat = FederatedLoss(C, class_stats=found, hierarchy=False)
    assert flat.img_count.tolist() == count.tolist()
