import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.functional import class_balanced_loss, effective_num_weights
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing import demo_class_stats
from tests.helpers.oracles_class_balanced import focal_loop

COUNTS = torch.tensor([500, 60, 7, 0])
IMAGES = torch.tensor([90, 50, 6, 0])
STATS = ClassStats(
    class_names=['a', 'b', 'c', 'd'],
    img_count=IMAGES.numpy(),
    instance_count=COUNTS.numpy(),
    num_images=100,
)
LABELS = torch.tensor([0, 1, 2, 3, 4, 4])
KINDS = {'Softmax': 'softmax', 'Sigmoid': 'sigmoid', 'Focal': 'focal'}


def build(name, num_classes=4, **kwargs):
    return MODELS.build(
        dict(
            type=f'mmdet_imbalance.ClassBalanced{name}Loss',
            num_classes=num_classes,
            **kwargs,
        )
    )


@pytest.mark.parametrize('name', KINDS)
def test_equals_the_function_on_counted_weights(name):
    for kwargs, counts, beta in (
        (dict(), COUNTS, 0.999),
        (dict(beta=0.9), COUNTS, 0.9),
        (
            dict(class_weight=dict(type='effective_num', beta=0.9, count='image')),
            IMAGES,
            0.9,
        ),
    ):
        loss = build(name, class_stats=STATS, **kwargs)
        logits = torch.randn(6, loss.cls_channels)
        weight = effective_num_weights(counts, beta)
        expected = class_balanced_loss(logits, LABELS, weight, KINDS[name])
        # Divided by the number of rows the head says, never by the sum of weights.
        torch.testing.assert_close(
            loss(logits, LABELS, torch.ones(6), avg_factor=6.0), expected.sum() / 6
        )


@pytest.mark.parametrize('name', KINDS)
def test_statistics_of_the_hook_and_of_a_file(name, tmp_path):
    logits = torch.randn(6, build(name).cls_channels)
    expected = build(name, class_stats=STATS)(logits, LABELS)
    STATS.save(tmp_path / 'stats.json')
    from_file = build(name, class_stats=str(tmp_path / 'stats.json'))
    torch.testing.assert_close(from_file(logits, LABELS), expected)
    from_hook = build(name)
    with pytest.raises(RuntimeError, match='ClassStatsHook'):
        from_hook(logits, LABELS)
    from_hook.set_class_stats(STATS)
    torch.testing.assert_close(from_hook(logits, LABELS), expected)


def test_gamma_zero_is_sigmoid_and_weight_one_is_plain():
    logits = torch.randn(6, 4)
    focal = build('Focal', gamma=0.0, class_stats=STATS)
    sigmoid = build('Sigmoid', class_stats=STATS)
    torch.testing.assert_close(focal(logits, LABELS), sigmoid(logits, LABELS))
    plain = build('Softmax', beta=0.0, class_stats=STATS)
    logits = torch.randn(6, 5)
    torch.testing.assert_close(plain(logits, LABELS), F.cross_entropy(logits, LABELS))


def test_background_weight_is_an_option():
    rule = dict(type='effective_num', beta=0.9, background=0.25)
    logits = torch.randn(6, 5)
    rows = build('Softmax', class_stats=STATS, class_weight=rule, reduction='none')(
        logits, LABELS
    )
    expected = 0.25 * F.cross_entropy(logits, LABELS, reduction='none')
    torch.testing.assert_close(rows[4:], expected[4:])


@pytest.mark.parametrize('form', ['labels', 'dense'])
def test_a_row_weighs_as_its_most_specific_label(form):
    stats = demo_class_stats(5)  # 1 is a 0.
    loss = build(
        'Focal', 5, class_stats=stats, reduction='none', class_weight=[9, 2, 3, 4, 5]
    )
    gen = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=gen, dtype=torch.float64)
    sets = [{0}, {0, 1}, {2}, set()]
    weight = torch.tensor([9.0, 2.0, 3.0, 1.0]).double()
    # Descendants of the label are no terms: class 1 in the row that is only a 0.
    expected = focal_loop(logits.tolist(), sets, 2.0, ignore=[{1}, set(), set(), set()])
    target = torch.tensor([0, 1, 2, 5])
    if form == 'dense':
        target = torch.zeros(4, 5)
        for row, labels in enumerate(sets):
            target[row, list(labels)] = 1
    torch.testing.assert_close(
        loss(logits, target),
        weight * torch.tensor(expected).double(),
        rtol=1e-6,
        atol=0,
    )


def test_two_specific_labels_weigh_their_mean():
    loss = build('Sigmoid', 5, class_weight=[1, 2, 4, 8, 16], reduction='none')
    plain = build('Sigmoid', 5, class_weight=[1.0] * 5, reduction='none')
    logits = torch.randn(1, 5)
    target = torch.tensor([[0, 1, 0, 1, 0]])
    torch.testing.assert_close(loss(logits, target), 5 * plain(logits, target))


@pytest.mark.parametrize(
    ('name', 'kwargs', 'error', 'message'),
    [
        ('Softmax', dict(beta=0.9, class_weight=[1] * 4), ValueError, 'exclude'),
        ('Softmax', dict(beta=1.0, class_stats=STATS), ValueError, '`beta`'),
        ('Focal', dict(gamma=-1.0), ValueError, '`gamma`'),
        ('Focal', dict(alpha=0.25), TypeError, 'alpha'),
        ('Sigmoid', dict(gamma=2.0), TypeError, 'gamma'),
        ('Sigmoid', dict(use_sigmoid=False), ValueError, 'use_sigmoid=True'),
        ('Softmax', dict(use_sigmoid=True), ValueError, 'use_sigmoid=False'),
    ],
)
def test_bad_arguments_are_named(name, kwargs, error, message):
    with pytest.raises(error, match=message):
        build(name, **kwargs)


def test_beta_outside_its_range_is_named_before_any_statistics():
    with pytest.raises(ValueError, match='`beta`'):
        build('Softmax', beta=1.5)
    with pytest.raises(ValueError, match='no key'):
        build('Softmax', class_weight=dict(type='inverse', betta=0.9))


def test_weights_are_in_the_checkpoint():
    trained = build('Focal', class_stats=STATS)
    fresh = build('Focal')
    fresh.load_state_dict(trained.state_dict())
    logits = torch.randn(6, 4)
    torch.testing.assert_close(fresh(logits, LABELS), trained(logits, LABELS))
    assert np.isclose(float(fresh.class_weight[:3].sum()), 3.0)


@pytest.mark.parametrize(
    'name', ['ClassBalancedSoftmaxLoss', 'SeesawLoss', 'EqualizationLossV2']
)
def test_losses_of_one_label_weigh_by_that_label_in_every_form_of_target(name):
    # Their term is of the primary label: the weight is its own, not its set's mean.
    loss = MODELS.build(
        dict(
            type=f'mmdet_imbalance.{name}',
            num_classes=4,
            class_weight=[2.0, 0.5, 3.0, 0.25],
            reduction='none',
        )
    ).eval()
    logits = torch.randn(6, loss.cls_channels)
    pos_inds = torch.arange(4)
    sets = torch.eye(4, dtype=torch.bool)
    sets[:, 0] = True
    torch.testing.assert_close(
        loss(logits, MultiLabelTarget(LABELS, pos_inds, sets)), loss(logits, LABELS)
    )
