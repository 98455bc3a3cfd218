import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.functional import concurrent_softmax, concurrent_softmax_loss
from mmdet_imbalance.registry import MODELS
from tests.helpers.oracles_concurrent_softmax import loss_loop, scores_loop

# 0 animal > 1 fish > 2 shark;  3 toy;  4 car.  Some toys are cars, some are sharks.
NUM_CLASSES = 5
ANCESTORS = np.eye(NUM_CLASSES, dtype=bool)
ANCESTORS[1, 0] = ANCESTORS[2, 0] = ANCESTORS[2, 1] = True


def make_stats(hierarchy: bool = True) -> ClassStats:
    return ClassStats(
        class_names=['animal', 'fish', 'shark', 'toy', 'car'],
        img_count=np.array([5, 4, 3, 6, 7]),
        instance_count=np.array([10, 20, 5, 10, 8]),
        num_images=20,
        pair_rows=np.array([3, 2]),
        pair_cols=np.array([4, 3]),
        pair_values=np.array([4, 1]),
        ancestor_matrix=ANCESTORS if hierarchy else None,
        **(
            dict(
                expanded_img_count=np.array([9, 6, 3, 6, 7]),
                expanded_instance_count=np.array([35, 25, 5, 10, 8]),
                expanded_pair_rows=np.array([0, 0, 1, 3, 2, 1, 0]),
                expanded_pair_cols=np.array([1, 2, 2, 4, 3, 3, 3]),
                expanded_pair_values=np.array([25, 5, 5, 4, 1, 1, 1]),
            )
            if hierarchy
            else {}
        ),
    )


def build(**kwargs):
    return MODELS.build(
        dict(
            type='mmdet_imbalance.ConcurrentSoftmaxLoss',
            num_classes=NUM_CLASSES,
            **kwargs,
        )
    )


FLAT_RATE = np.zeros((5, 5))
FLAT_RATE[3, 4], FLAT_RATE[4, 3] = 4 / 10, 4 / 8
FLAT_RATE[2, 3], FLAT_RATE[3, 2] = 1 / 5, 1 / 10

#: With the hierarchy: ancestors count the objects of their descendants, and between a
#: class and its ancestor the rate is 1 both ways.
TREE_RATE = np.zeros((5, 5))
TREE_RATE[3, 4], TREE_RATE[4, 3] = 4 / 10, 4 / 8
TREE_RATE[2, 3], TREE_RATE[3, 2] = 1 / 5, 1 / 10
TREE_RATE[1, 3], TREE_RATE[3, 1] = 1 / 25, 1 / 10
TREE_RATE[0, 3], TREE_RATE[3, 0] = 1 / 35, 1 / 10
for child, ancestor in ((1, 0), (2, 0), (2, 1)):
    TREE_RATE[child, ancestor] = TREE_RATE[ancestor, child] = 1.0

LABELS = torch.tensor([0, 1, 2, 3, 4, 5])
CLOSED = [{0}, {0, 1}, {0, 1, 2}, {3}, {4}, {5}]
DESCENDANTS = [{1, 2}, {2}, set(), set(), set(), set()]


@pytest.fixture
def logits():
    gen = torch.Generator().manual_seed(0)
    return 2 * torch.randn(6, 6, generator=gen, dtype=torch.float64)


def test_rate_is_counted_on_objects(logits):
    loss = build(class_stats=make_stats(hierarchy=False), reduction='none')
    expected = loss_loop(logits.tolist(), [{int(k)} for k in LABELS], FLAT_RATE)
    torch.testing.assert_close(
        loss(logits, LABELS).tolist(), expected, rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        loss.get_activation(logits).tolist(),
        scores_loop(logits.tolist(), FLAT_RATE),
        rtol=1e-6,
        atol=1e-6,
    )


def test_direction_turns_the_matrix(logits):
    loss = build(
        class_stats=make_stats(hierarchy=False),
        reduction='none',
        direction='given_col',
    )
    expected = loss_loop(logits.tolist(), [{int(k)} for k in LABELS], FLAT_RATE.T)
    torch.testing.assert_close(
        loss(logits, LABELS).tolist(), expected, rtol=1e-6, atol=1e-6
    )


def test_ancestors_are_positives_and_descendants_are_ignored(logits):
    loss = build(class_stats=make_stats(), reduction='none')
    expected = loss_loop(logits.tolist(), CLOSED, TREE_RATE, ignore=DESCENDANTS)
    torch.testing.assert_close(
        loss(logits, LABELS).tolist(), expected, rtol=1e-6, atol=1e-6
    )


def multi_label_forms(sets):
    dense = torch.zeros(len(sets), NUM_CLASSES + 1, dtype=torch.bool)
    for row, labels in enumerate(sets):
        dense[row, list(labels)] = True
    pos_inds = (~dense[:, -1]).nonzero().flatten()
    labels = torch.tensor([max(labels) for labels in sets])
    return {
        'dense with background': dense,
        'dense without background': dense[:, :-1],
        'float': dense.float(),
        'positives only': MultiLabelTarget(
            labels, pos_inds, dense[pos_inds][:, :NUM_CLASSES]
        ),
    }


@pytest.mark.parametrize('is_closed', [True, False])
@pytest.mark.parametrize('form', list(multi_label_forms([{0}])))
def test_every_form_of_target(logits, form, is_closed):
    # A toy fish: its ancestor joins, sharks are ignored in the term of the toy too.
    sets = [{5}, {1, 3}, {2}, {3, 4}, {0}, {2, 3}]
    closed = [{5}, {0, 1, 3}, {0, 1, 2}, {3, 4}, {0}, {0, 1, 2, 3}]
    ignored = [set(), {2}, set(), set(), {1, 2}, set()]
    target = multi_label_forms(closed if is_closed else sets)[form]
    loss = build(class_stats=make_stats(), reduction='none')
    expected = loss_loop(logits.tolist(), closed, TREE_RATE, ignore=ignored)
    torch.testing.assert_close(
        loss(logits, target).tolist(), expected, rtol=1e-6, atol=1e-6
    )
    mean = build(class_stats=make_stats(), reduction='none', label_reduction='mean')
    num = torch.tensor([len(labels) for labels in closed])
    torch.testing.assert_close(
        mean(logits, target), torch.tensor(expected).double() / num, rtol=1e-5, atol=0
    )


def test_two_parents_that_are_not_related(logits):
    # 2 is a 0 and a 1, which have nothing to do with each other.
    stats = make_stats()
    ancestors = np.eye(NUM_CLASSES, dtype=bool)
    ancestors[2, 0] = ancestors[2, 1] = True
    stats.ancestor_matrix = ancestors
    loss = build(class_stats=stats, concurrent_rate=0, reduction='none')
    rate = (ancestors | ancestors.T).astype(float)
    closed = [{0}, {1}, {0, 1, 2}, {3}, {4}, {5}]
    ignored = [{2}, {2}, set(), set(), set(), set()]
    expected = loss_loop(logits.tolist(), closed, rate, ignore=ignored)
    torch.testing.assert_close(
        loss(logits, LABELS).tolist(), expected, rtol=1e-6, atol=1e-6
    )


def test_an_ancestor_scores_no_less_for_its_certain_descendant():
    loss = build(class_stats=make_stats())
    certain_shark = torch.tensor([[6.0, 6.0, 9.0, -6.0, -6.0, -6.0]])
    scores = loss.get_activation(certain_shark)[0]
    assert (scores[:3] > 0.99).all()
    assert (scores[3:] < 0.01).all()
    counted = build(class_stats=make_stats(), descendant_rate='counted')
    # P(shark | animal) is 1/7: the shark pushes the animal down.
    assert counted.get_activation(certain_shark)[0, 0] < 0.1


def test_without_rate_and_hierarchy_it_is_cross_entropy(logits):
    for rate in (None, 0, 0.0, np.zeros((5, 5))):
        loss = build(concurrent_rate=rate, reduction='none')
        torch.testing.assert_close(
            loss(logits, LABELS), F.cross_entropy(logits, LABELS, reduction='none')
        )
        torch.testing.assert_close(loss.get_activation(logits), logits.softmax(1))


def test_statistics_without_expanded_counts(logits):
    stats = make_stats()
    explicit = ClassStats(
        class_names=stats.class_names,
        img_count=stats.img_count,
        instance_count=stats.instance_count,
        num_images=stats.num_images,
        pair_rows=stats.pair_rows,
        pair_cols=stats.pair_cols,
        pair_values=stats.pair_values,
        ancestor_matrix=ANCESTORS,
    )
    loss = build(class_stats=explicit, reduction='none')
    rate = np.where(TREE_RATE == 1.0, 1.0, FLAT_RATE)
    expected = loss_loop(logits.tolist(), CLOSED, rate, ignore=DESCENDANTS)
    torch.testing.assert_close(
        loss(logits, LABELS).tolist(), expected, rtol=1e-6, atol=1e-6
    )


def test_hierarchy_false_leaves_labels_alone(logits):
    loss = build(
        class_stats=make_stats(), concurrent_rate=0, hierarchy=False, reduction='none'
    )
    torch.testing.assert_close(
        loss(logits, LABELS), F.cross_entropy(logits, LABELS, reduction='none')
    )


def test_test_time_matrix_is_set_apart(logits):
    rate = torch.rand(5, 5)
    loss = build(concurrent_rate=0, test_concurrent_rate=rate.tolist())
    torch.testing.assert_close(
        loss(logits, LABELS), F.cross_entropy(logits, LABELS), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        loss.get_activation(logits), concurrent_softmax(logits, rate)
    )
    loss = build(concurrent_rate=rate, test_concurrent_rate=0, reduction='none')
    torch.testing.assert_close(loss.get_activation(logits), logits.softmax(1))
    torch.testing.assert_close(
        loss(logits, LABELS), concurrent_softmax_loss(logits, LABELS, rate)
    )


@pytest.mark.parametrize('suffix', ['.npy', '.csv', '.json'])
def test_rate_from_a_file(logits, tmp_path, suffix):
    file = tmp_path / f'rate{suffix}'
    if suffix == '.npy':
        np.save(file, FLAT_RATE)
    elif suffix == '.csv':
        np.savetxt(file, FLAT_RATE, delimiter=',')
    else:
        make_stats(hierarchy=False).save(file)
    loss = build(concurrent_rate=str(file), reduction='none')
    torch.testing.assert_close(
        loss(logits, LABELS),
        concurrent_softmax_loss(logits, LABELS, torch.tensor(FLAT_RATE)),
        rtol=1e-6,
        atol=1e-6,
    )


def test_a_checkpoint_makes_a_fresh_loss_ready(logits):
    trained = build(
        test_concurrent_rate='class_stats', class_weight=dict(type='inverse')
    )
    trained.set_class_stats(make_stats())
    fresh = build(test_concurrent_rate='class_stats', class_weight=dict(type='inverse'))
    with pytest.raises(RuntimeError, match='ClassStatsHook'):
        fresh(logits, LABELS)
    with pytest.raises(RuntimeError, match=r'tools/class_stats\.py'):
        fresh.get_activation(logits)
    fresh.load_state_dict(trained.state_dict())
    torch.testing.assert_close(fresh(logits, LABELS), trained(logits, LABELS))
    torch.testing.assert_close(
        fresh.get_activation(logits), trained.get_activation(logits)
    )


def test_an_unready_checkpoint_does_not_make_ready(logits):
    ready = build()
    ready.set_class_stats(make_stats())
    ready.load_state_dict(build().state_dict())
    with pytest.raises(RuntimeError, match='needs class statistics'):
        ready(logits, LABELS)


def test_hierarchy_demanded_but_absent():
    loss = build(concurrent_rate=0, hierarchy=True)
    with pytest.raises(RuntimeError, match='ancestor_matrix'):
        loss(torch.zeros(1, 6), torch.tensor([0]))
    with pytest.raises(ValueError, match='ClassHierarchyDataset'):
        loss.set_class_stats(make_stats(hierarchy=False))
    loss.set_class_stats(make_stats())
    assert loss.get_activation(torch.zeros(1, 6))[0, 0] > 1 / 5


def test_class_weight_multiplies_the_term_of_its_label(logits):
    weight = [2.0, 0.5, 3.0, 1.0, 4.0, 0.25]
    kwargs = dict(class_stats=make_stats(), reduction='none')
    loss = build(class_weight=weight, **kwargs)(logits, LABELS)
    expected = torch.zeros(6, dtype=torch.float64)
    for row, labels in enumerate(CLOSED):
        for label in labels:
            # The term of one label: the other labels and the descendants are ignored.
            (term,) = loss_loop(
                [logits[row].tolist()],
                [{label}],
                TREE_RATE,
                ignore=[labels - {label} | DESCENDANTS[row]],
            )
            expected[row] += weight[label] * term
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    dense = multi_label_forms(CLOSED)['dense with background']
    torch.testing.assert_close(
        build(class_weight=weight, **kwargs)(logits, dense), loss, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(concurrent_rate=np.zeros((4, 4))), r'\(5, 5\).*\(4, 4\)'),
        (dict(concurrent_rate=np.full((5, 5), 2.0)), r'\[0, 1\]'),
        (dict(direction='given'), 'direction'),
        (dict(label_reduction='max'), 'label_reduction'),
        (dict(descendant_rate='none'), 'descendant_rate'),
        (dict(hierarchy='yes'), 'hierarchy'),
        (dict(use_sigmoid=True), 'use_sigmoid=False'),
        (dict(reduction='avg'), 'reduction'),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_missing_file_and_statistics_of_another_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'rate\.npy'):
        build(concurrent_rate=str(tmp_path / 'rate.npy'))
    stats = ClassStats(
        class_names=['a', 'b'],
        img_count=np.array([1, 1]),
        instance_count=np.array([1, 1]),
        num_images=2,
    )
    with pytest.raises(ValueError, match='2 classes'):
        build(class_stats=stats)
    with pytest.raises(ValueError, match='another dataset'):
        build().set_class_stats(stats)


def test_statistics_of_the_config_win_over_the_hook(logits):
    loss = build(class_stats=make_stats(hierarchy=False), reduction='none')
    before = loss(logits, LABELS)
    loss.set_class_stats(make_stats())
    torch.testing.assert_close(loss(logits, LABELS), before)


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (torch.tensor([0, 1, 2]), '6 rows'),
        (torch.tensor([0, 1, 2, 3, 4, 6]), r'\[0, 5\].*got 6'),
        (torch.tensor([0, 1, 2, 3, 4, -1]), 'got -1'),
        (torch.zeros(6), 'integers'),
        (torch.zeros(6, 4), r'\(N, 5\)'),
        (torch.zeros(6, 6), 'row 0'),
    ],
)
def test_bad_targets_are_named(logits, target, message):
    loss = build(concurrent_rate=0)
    with pytest.raises(ValueError, match=message):
        loss(logits, target)


def test_ignored_rows_may_bear_any_label(logits):
    loss = build(concurrent_rate=0)
    weight = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    labels = torch.tensor([0, 1, -1, 3, 4, 255])
    kept = weight > 0
    torch.testing.assert_close(
        loss(logits, labels, weight, avg_factor=4.0),
        F.cross_entropy(logits[kept], labels[kept]),
    )
