import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.functional import class_balanced_loss, multi_label_focal_loss
from tests.helpers.oracles_class_balanced import focal_loop


def random_case(num_rows=7, num_classes=4, seed=0):
    gen = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_rows, num_classes, generator=gen, dtype=torch.float64)
    target = torch.rand(num_rows, num_classes, generator=gen) < 0.4
    target[0] = False
    return logits, target


def sets_of(target):
    return [set(row.nonzero().flatten().tolist()) for row in target]


@settings(deadline=None, max_examples=40)
@given(
    num_rows=st.integers(1, 6),
    num_classes=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.7]),
    alpha=st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]),
    has_ignore=st.booleans(),
)
def test_focal_follows_the_equation(
    num_rows, num_classes, seed, gamma, alpha, has_ignore
):
    logits, target = random_case(num_rows, num_classes, seed)
    gen = torch.Generator().manual_seed(seed)
    ignore = torch.rand(num_rows, num_classes, generator=gen) < 0.3
    loss = multi_label_focal_loss(
        logits, target, gamma, alpha, ignore if has_ignore else None
    )
    expected = focal_loop(
        logits.tolist(),
        sets_of(target),
        gamma,
        alpha,
        sets_of(ignore) if has_ignore else None,
    )
    torch.testing.assert_close(loss.tolist(), expected)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize('alpha', [None, 0.25, 1.0])
@pytest.mark.parametrize('form', ['labels', 'sets', 'ignore'])
def test_focal_gradcheck(gamma, alpha, form):
    logits, target = random_case()
    ignore = None
    if form == 'labels':
        target = torch.tensor([0, 1, 2, 3, 4, 4, 0])
    if form == 'ignore':
        ignore = torch.rand(7, 4) < 0.4
    torch.autograd.gradcheck(
        lambda z: multi_label_focal_loss(z, target, gamma, alpha, ignore),
        logits.requires_grad_(),
    )


def test_focal_without_focus_is_binary_cross_entropy():
    logits, target = random_case()
    loss = multi_label_focal_loss(logits, target, gamma=0.0)
    expected = F.binary_cross_entropy_with_logits(
        logits, target.double(), reduction='none'
    )
    torch.testing.assert_close(loss, expected.sum(1))


def test_labels_and_one_hot_agree():
    logits, _ = random_case()
    labels = torch.tensor([0, 1, 2, 3, 4, 4, 0])
    one_hot = F.one_hot(labels, 5)[:, :4]
    for alpha in (None, 0.25):
        torch.testing.assert_close(
            multi_label_focal_loss(logits, labels, alpha=alpha),
            multi_label_focal_loss(logits, one_hot, alpha=alpha),
        )


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('sign', [1, -1])
def test_hard_terms_at_logits_of_200(gamma, sign):
    # The copied form overflows near -88 and gives a hard positive no loss at all.
    logits = torch.tensor([[-200.0 * sign]], requires_grad=True)
    target = torch.tensor([[sign == 1]])
    loss = multi_label_focal_loss(logits, target, gamma)
    torch.testing.assert_close(loss, torch.tensor([200.0]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0 * sign]]))
    easy = multi_label_focal_loss(-logits.detach(), target, gamma)
    torch.testing.assert_close(easy, torch.zeros(1))


def test_more_rows_than_a_block_holds(monkeypatch):
    import mmdet_imbalance.core.blocks as blocks

    logits, target = random_case(num_rows=33)
    whole = multi_label_focal_loss(logits, target, alpha=0.25)
    monkeypatch.setattr(blocks, 'CPU_BLOCK', 10)
    torch.testing.assert_close(
        multi_label_focal_loss(logits, target, alpha=0.25), whole, rtol=0, atol=0
    )


def test_input_is_left_alone():
    logits, target = random_case()
    before = logits.clone()
    multi_label_focal_loss(logits, target, ignore=torch.rand(7, 4) < 0.5)
    torch.testing.assert_close(logits, before, rtol=0, atol=0)


WEIGHT = torch.tensor([2.0, 0.5, 1.5, 3.0])
LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 0])
ROW_WEIGHT = torch.tensor([2.0, 0.5, 1.5, 3.0, 1.0, 1.0, 2.0], dtype=torch.float64)


@pytest.mark.parametrize('gamma', [0.5, 1.0, 2.0])
def test_weight_of_the_class_multiplies_all_terms(gamma):
    logits, _ = random_case()
    sets = [{int(k)} for k in LABELS]
    loss = class_balanced_loss(logits, LABELS, WEIGHT, 'focal', gamma)
    expected = torch.tensor(focal_loop(logits.tolist(), sets, gamma)).double()
    torch.testing.assert_close(loss, expected * ROW_WEIGHT, rtol=1e-6, atol=0)
    loss = class_balanced_loss(logits, LABELS, WEIGHT, 'sigmoid', gamma)
    expected = torch.tensor(focal_loop(logits.tolist(), sets, 0.0)).double()
    torch.testing.assert_close(loss, expected * ROW_WEIGHT, rtol=1e-6, atol=0)


def test_softmax_equals_weighted_cross_entropy():
    logits = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    loss = class_balanced_loss(logits, LABELS, WEIGHT, 'softmax')
    weight = torch.cat([WEIGHT, torch.ones(1)]).double()
    expected = F.cross_entropy(logits, LABELS, weight, reduction='none')
    torch.testing.assert_close(loss, expected)
    torch.autograd.gradcheck(
        lambda z: class_balanced_loss(z, LABELS, WEIGHT, 'softmax'), logits
    )


@pytest.mark.parametrize('kind', ['softmax', 'sigmoid', 'focal'])
def test_laws(kind):
    channels = 5 if kind == 'softmax' else 4
    logits = torch.randn(7, channels, dtype=torch.float64)
    loss = class_balanced_loss(logits, LABELS, WEIGHT, kind)
    # Scale law, permutation of rows, permutation of classes, empty batch.
    is_fg = LABELS < 4
    double = class_balanced_loss(logits, LABELS, 2 * WEIGHT, kind)
    torch.testing.assert_close(double, torch.where(is_fg, 2 * loss, loss))
    rows = torch.randperm(7)
    torch.testing.assert_close(
        class_balanced_loss(logits[rows], LABELS[rows], WEIGHT, kind), loss[rows]
    )
    perm = torch.tensor([2, 0, 3, 1])
    columns = torch.cat([perm, torch.tensor([4])])[:channels]
    new_label = torch.cat([perm.argsort(), torch.tensor([4])])
    torch.testing.assert_close(
        class_balanced_loss(logits[:, columns], new_label[LABELS], WEIGHT[perm], kind),
        loss,
    )
    empty = class_balanced_loss(logits[:0], LABELS[:0], WEIGHT, kind)
    assert empty.shape == (0,)
    half = class_balanced_loss(logits.half(), LABELS, WEIGHT, kind)
    assert half.dtype == torch.float32
    nan = logits.clone()
    nan[2, 0] = math.nan
    got = class_balanced_loss(nan, LABELS, WEIGHT, kind).isnan()
    assert got.tolist() == [n == 2 for n in range(7)]


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda z: class_balanced_loss(z, LABELS, WEIGHT, 'ce'), "got 'ce'"),
        (lambda z: class_balanced_loss(z, LABELS, WEIGHT, 'softmax'), r'\(N, 5\)'),
        (lambda z: class_balanced_loss(z, LABELS, WEIGHT[:3], 'focal'), r'\(N, 3\)'),
        (lambda z: class_balanced_loss(z, LABELS[:3], WEIGHT, 'focal'), r'\(7,\)'),
        (lambda z: class_balanced_loss(z, LABELS + 1, WEIGHT, 'focal'), 'got 5'),
        (lambda z: class_balanced_loss(z, LABELS, WEIGHT, 'focal', -1.0), '`gamma`'),
        (lambda z: multi_label_focal_loss(z, LABELS, alpha=2.0), '`alpha`'),
        (lambda z: multi_label_focal_loss(z, z[:, :2]), '`target`'),
        (lambda z: multi_label_focal_loss(z, LABELS, ignore=z[:2]), '`ignore`'),
        (lambda z: multi_label_focal_loss(z[0], LABELS), '`logits`'),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(7, 4))
