import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.functional import (
    concurrent_rate,
    concurrent_softmax,
    concurrent_softmax_loss,
)
from tests.helpers.oracles_concurrent_softmax import (
    gradient_loop,
    loss_loop,
    scores_loop,
)


def random_case(num_rows, num_classes, seed=0, dtype=torch.float64):
    """Logits, multi-hot target with background rows, rate; every third row is 1-hot."""
    gen = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_rows, num_classes + 1, generator=gen, dtype=dtype)
    target = torch.rand(num_rows, num_classes + 1, generator=gen) < 0.3
    main = torch.randint(0, num_classes + 1, (num_rows,), generator=gen)
    target[::3] = False
    target[torch.arange(num_rows), main] = True
    target[main == num_classes, :-1] = False
    target[main < num_classes, -1] = False
    rate = torch.rand(num_classes, num_classes, generator=gen, dtype=dtype)
    rate[rate < 0.3] = 0.0
    rate[rate > 0.9] = 1.0
    return logits, target, rate.fill_diagonal_(0.0)


def sets_of(target):
    return [set(row.nonzero().flatten().tolist()) for row in target]


@settings(deadline=None, max_examples=25)
@given(
    num_rows=st.integers(1, 9),
    num_classes=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    reduction=st.sampled_from(['sum', 'mean']),
)
def test_value_and_gradient_follow_the_equations(
    num_rows, num_classes, seed, reduction
):
    logits, target, rate = random_case(num_rows, num_classes, seed)
    logits.requires_grad_()
    loss = concurrent_softmax_loss(logits, target, rate, reduction)
    sets = sets_of(target)
    expected = loss_loop(
        logits.tolist(), sets, rate.tolist(), label_mean=reduction == 'mean'
    )
    torch.testing.assert_close(loss.tolist(), expected)
    if reduction == 'sum':
        loss.sum().backward()
        torch.testing.assert_close(
            logits.grad.tolist(), gradient_loop(logits.tolist(), sets, rate.tolist())
        )


@settings(deadline=None, max_examples=25)
@given(
    num_rows=st.integers(1, 9),
    num_classes=st.integers(1, 6),
    seed=st.integers(0, 10**6),
)
def test_scores_follow_the_equation(num_rows, num_classes, seed):
    logits, _, rate = random_case(num_rows, num_classes, seed)
    scores = concurrent_softmax(logits, rate)
    assert scores.shape == logits.shape
    torch.testing.assert_close(
        scores.tolist(), scores_loop(logits.tolist(), rate.tolist())
    )


@pytest.mark.parametrize('rate', [None, 'zero'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_cross_entropy_without_concurrent_classes(rate, dtype):
    logits = torch.randn(11, 5, dtype=dtype)
    labels = torch.randint(0, 5, (11,))
    rate = None if rate is None else torch.zeros(4, 4)
    for target in (labels, F.one_hot(labels, 5).bool(), F.one_hot(labels, 5).float()):
        ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
        loss = concurrent_softmax_loss(ours, target, rate)
        expected = F.cross_entropy(theirs, labels, reduction='none')
        torch.testing.assert_close(loss, expected)
        (loss * torch.arange(11)).sum().backward()
        (expected * torch.arange(11)).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(concurrent_softmax(logits, rate), logits.softmax(1))


def test_labels_and_one_hot_agree_with_rates():
    logits, _, rate = random_case(12, 5)
    labels = torch.randint(0, 6, (12,))
    torch.testing.assert_close(
        concurrent_softmax_loss(logits, labels, rate),
        concurrent_softmax_loss(logits, F.one_hot(labels, 6), rate),
    )


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
@pytest.mark.parametrize('form', ['labels', 'sets', 'ignore'])
def test_gradcheck(form, reduction):
    logits, target, rate = random_case(6, 4, seed=3)
    ignore = None
    if form == 'labels':
        target = target.int().argmax(1)
    if form == 'ignore':
        ignore = (torch.rand(6, 5) < 0.4) & ~target
    torch.autograd.gradcheck(
        lambda z: concurrent_softmax_loss(z, target, rate, reduction, ignore=ignore),
        logits.requires_grad_(),
    )


def test_second_derivative_raises_rather_than_lies():
    logits, target, rate = random_case(6, 4, seed=3)
    loss = concurrent_softmax_loss(logits.requires_grad_(), target, rate)
    (grad,) = torch.autograd.grad(loss.sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match='autograd formula'):
        grad.sum().backward()


def test_ignored_classes_equal_classes_of_logit_minus_infinity():
    logits, target, rate = random_case(8, 5, seed=1)
    ignore = (torch.rand(8, 6) < 0.5) & ~target
    loss = concurrent_softmax_loss(logits, target, rate, ignore=ignore)
    hidden = logits.masked_fill(ignore, -math.inf)
    torch.testing.assert_close(loss, concurrent_softmax_loss(hidden, target, rate))
    sets = [set(row.nonzero().flatten().tolist()) for row in ignore]
    expected = loss_loop(logits.tolist(), sets_of(target), rate.tolist(), ignore=sets)
    torch.testing.assert_close(loss.tolist(), expected)


def test_ignore_reaches_rows_of_plain_labels_and_never_hides_a_positive():
    logits = torch.randn(5, 4, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 3])
    ignore = torch.ones(5, 4, dtype=torch.bool)
    # All negatives ignored: nothing is left to be wrong about.
    loss = concurrent_softmax_loss(logits, labels, ignore=ignore)
    torch.testing.assert_close(loss, torch.zeros(5, dtype=torch.float64))


def test_more_explicit_labels_never_raise_the_term_of_the_others():
    logits, _, rate = random_case(40, 6, seed=5)
    labels = torch.randint(0, 6, (40,))
    one = F.one_hot(labels, 7).bool()
    extra = (labels + 1) % 6
    two = one | F.one_hot(extra, 7).bool()
    pair = concurrent_softmax_loss(logits, two, rate)
    # The two terms, each alone, with the other label as a negative.
    alone = concurrent_softmax_loss(logits, one, rate) + concurrent_softmax_loss(
        logits, F.one_hot(extra, 7), rate
    )
    assert (pair <= alone + 1e-12).all()
    assert (pair < alone - 1e-6).any()


def test_a_higher_rate_never_raises_the_loss():
    logits, target, rate = random_case(40, 6, seed=6)
    higher = (rate + 0.2).clamp(max=1.0)
    low = concurrent_softmax_loss(logits, target, higher)
    high = concurrent_softmax_loss(logits, target, rate)
    assert (low <= high + 1e-12).all()


def test_k_labels_can_be_learnt_to_loss_zero():
    target = torch.tensor([[1, 1, 1, 0, 0]])
    logits = torch.tensor([[30.0, 30.0, 30.0, -30.0, -30.0]])
    loss = concurrent_softmax_loss(logits, target)
    torch.testing.assert_close(loss, torch.zeros(1))


def test_class_permutation_and_row_permutation():
    logits, target, rate = random_case(9, 5, seed=2)
    loss = concurrent_softmax_loss(logits, target, rate)
    rows, classes = torch.randperm(9), torch.randperm(5)
    columns = torch.cat([classes, torch.tensor([5])])
    permuted = concurrent_softmax_loss(
        logits[rows][:, columns], target[rows][:, columns], rate[classes][:, classes]
    )
    torch.testing.assert_close(permuted, loss[rows])
    torch.testing.assert_close(
        concurrent_softmax(logits[:, columns], rate[classes][:, classes]),
        concurrent_softmax(logits, rate)[:, columns],
    )


def test_background_rows_and_column_know_no_rates():
    logits, _, rate = random_case(9, 5, seed=2)
    labels = torch.full((9,), 5)
    torch.testing.assert_close(
        concurrent_softmax_loss(logits, labels, rate),
        F.cross_entropy(logits, labels, reduction='none'),
    )
    torch.testing.assert_close(
        concurrent_softmax(logits, rate)[:, -1], logits.softmax(1)[:, -1]
    )


@pytest.mark.parametrize('form', ['labels', 'sets'])
def test_logits_of_200_and_a_rate_of_one(form):
    # Class 1 is certain beside class 0: the huge logit of 1 must not drown class 0.
    rate = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    logits = torch.tensor(
        [[-200.0, 200.0, -200.0, -200.0], [200.0, -200.0, 200.0, 200.0]],
        requires_grad=True,
    )
    labels = torch.tensor([0, 1])
    target = labels if form == 'labels' else F.one_hot(labels, 4)
    loss = concurrent_softmax_loss(logits, target, rate)
    # Row 0: three equal logits are left.  Row 1: 400 below three equal ones.
    expected = torch.tensor([math.log(3.0), 400.0 + math.log(3.0)])
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    third = 1 / 3
    expected = torch.tensor(
        [[third - 1, 0.0, third, third], [third, -1.0, third, third]]
    )
    torch.testing.assert_close(logits.grad, expected)
    scores = concurrent_softmax(logits.detach(), rate)
    torch.testing.assert_close(
        scores,
        torch.tensor([[third, 1.0, 0.0, 0.0], [third, 0.0, third, third]]),
    )


def test_scores_stay_finite_where_everything_underflows():
    logits = torch.tensor([[-5e4, 5e4, -5e4]])
    scores = concurrent_softmax(logits, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert scores.isfinite().all()
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, target, rate = random_case(9, 5, dtype=torch.float32)
    logits = logits.to(dtype)
    loss = concurrent_softmax_loss(logits, target, rate.to(dtype))
    assert loss.dtype == torch.float32
    expected = concurrent_softmax_loss(logits.float(), target, rate.to(dtype).float())
    torch.testing.assert_close(loss, expected)


def test_empty_batch_stays_on_the_graph():
    for target in (torch.zeros(0, dtype=torch.long), torch.zeros(0, 4)):
        logits = torch.zeros(0, 4, requires_grad=True)
        loss = concurrent_softmax_loss(logits, target, torch.zeros(3, 3))
        assert loss.shape == (0,)
        loss.sum().backward()
        assert logits.grad.shape == (0, 4)


def test_nan_logits_give_nan_and_leave_other_rows_alone():
    logits, target, rate = random_case(9, 5)
    logits[4, 2] = math.nan
    loss = concurrent_softmax_loss(logits, target, rate)
    assert loss.isnan().tolist() == [n == 4 for n in range(9)]
    assert concurrent_softmax(logits, rate)[4].isnan().all()


def test_the_diagonal_of_the_rate_is_ignored():
    logits, target, rate = random_case(9, 5)
    other = rate.clone().fill_diagonal_(1.0)
    torch.testing.assert_close(
        concurrent_softmax_loss(logits, target, rate),
        concurrent_softmax_loss(logits, target, other),
    )
    torch.testing.assert_close(
        concurrent_softmax(logits, rate), concurrent_softmax(logits, other)
    )


def test_rate_of_three_toys():
    # 4 toys, 3 cars, 2 of the objects are both; nobody has class 2.
    pairs = torch.tensor([[4, 2, 0], [2, 3, 0], [0, 0, 0]])
    counts = torch.tensor([4, 3, 0])
    given_row = torch.tensor([[0.0, 0.5, 0.0], [2 / 3, 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(concurrent_rate(pairs, counts), given_row)
    torch.testing.assert_close(
        concurrent_rate(pairs, counts, direction='given_col'), given_row.t()
    )


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: concurrent_rate(torch.ones(2, 2), torch.ones(3)), 'pair_count'),
        (lambda: concurrent_rate(torch.full((2, 2), 5), torch.ones(2)), '5'),
        (lambda: concurrent_rate(-torch.ones(2, 2), torch.ones(2)), 'pair_count'),
        (lambda: concurrent_rate(torch.ones(2, 2), torch.zeros(2)), 'pair_count'),
        (lambda: concurrent_rate(torch.ones(1, 1), torch.ones(1), 'x'), 'direction'),
        (lambda: concurrent_softmax(torch.zeros(2, 3), torch.zeros(3, 3)), '3 classes'),
        (lambda: concurrent_softmax(torch.zeros(2, 3), torch.zeros(2)), 'shape'),
        (
            lambda: concurrent_softmax(
                torch.zeros(2, 3), torch.tensor([[0, 1.5], [0, 0]])
            ),
            r'1\.5 at \[0, 1\]',
        ),
        (
            lambda: concurrent_softmax(
                torch.zeros(2, 3), torch.tensor([[0, math.nan], [0, 0]])
            ),
            'nan',
        ),
        (
            lambda: concurrent_softmax_loss(torch.zeros(2, 3), torch.zeros(2, 3)),
            'row 0',
        ),
        (lambda: concurrent_softmax_loss(torch.zeros(2, 3), torch.ones(2, 3)), 'row 0'),
        (
            lambda: concurrent_softmax_loss(torch.zeros(2, 3), torch.ones(2, 2)),
            'target',
        ),
        (
            lambda: concurrent_softmax_loss(
                torch.zeros(2, 3), torch.zeros(2).long(), None, 'max'
            ),
            'label_reduction',
        ),
        (
            lambda: concurrent_softmax_loss(
                torch.zeros(2, 3), torch.zeros(2).long(), ignore=torch.zeros(2)
            ),
            'ignore',
        ),
        (lambda: concurrent_softmax_loss(torch.zeros(3), torch.zeros(3)), 'logits'),
        (
            lambda: concurrent_softmax_loss(torch.zeros(2, 3), torch.tensor([0, 7])),
            r'\[0, 2\].*got 7',
        ),
        (
            lambda: concurrent_softmax_loss(torch.zeros(2, 3), torch.tensor([0.5, 1])),
            'integers',
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize('form', ['labels', 'sets'])
def test_no_graph_break(form):
    logits, target, rate = random_case(9, 5, dtype=torch.float32)
    target = target if form == 'sets' else target.int().argmax(1)
    compiled = torch.compile(
        concurrent_softmax_loss, fullgraph=True, backend='aot_eager'
    )
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    compiled(ours, target, rate).sum().backward()
    concurrent_softmax_loss(theirs, target, rate).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(
        torch.compile(concurrent_softmax, fullgraph=True, backend='aot_eager')(
            logits, rate
        ),
        concurrent_softmax(logits, rate),
    )


def test_no_tensor_of_rows_by_classes_by_classes():
    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple | list) else [out]:
                if isinstance(value, torch.Tensor):
                    self.largest = max(self.largest, value.numel())
            return out

    logits, target, rate = random_case(64, 48, dtype=torch.float32)
    num_pairs = int(target.sum())
    with Watch() as watch:
        concurrent_softmax_loss(logits.requires_grad_(), target, rate).sum().backward()
        concurrent_softmax(logits.detach(), rate)
    assert watch.largest <= max(num_pairs, 64) * 49 < 64 * 48 * 48


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('scale', [800.0, 1e4])
def test_scores_of_classes_that_do_not_compete_with_a_far_top(dtype, scale):
    # Classes 1 and 2 are far below class 0, of which they are examples too.
    logits = torch.tensor([[0.0, -scale, -scale - 5.0, -2 * scale]], dtype=dtype)
    rate = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    scores = concurrent_softmax(logits, rate)
    expected = [1.0, 1 / (1 + math.exp(-5)), 1 / (1 + math.exp(5)), 0.0]
    torch.testing.assert_close(scores, torch.tensor([expected], dtype=dtype))


def test_double_logits_see_the_rate_in_double_precision():
    rate = torch.tensor([[0.0, 0.9999], [0.3, 0.0]])
    loss = concurrent_softmax_loss(
        torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0]), rate
    )
    keep = 1 - rate[0, 1].item()
    torch.testing.assert_close(loss.item(), math.log(2 + keep), rtol=1e-12, atol=0)
