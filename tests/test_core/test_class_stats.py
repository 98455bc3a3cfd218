"""Class statistics against counting with dictionaries and sets."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core import class_counting
from mmdet_imbalance.core.class_counting import count_classes, object_label_sets
from mmdet_imbalance.core.class_stats import ClassStats, freq_groups
from mmdet_imbalance.core.label_index import LabelIndex

C = 5
NAMES = [f'class {k}' for k in range(C)]
# 0 and 1 are under 3, 3 is under 4; 2 is alone.
ANCESTORS = {0: {0, 3, 4}, 1: {1, 3, 4}, 2: {2}, 3: {3, 4}, 4: {4}}
MATRIX = np.array([[j in ANCESTORS[i] for j in range(C)] for i in range(C)])

objects = st.tuples(st.sets(st.integers(0, C - 1), min_size=1), st.booleans())
images = st.lists(st.lists(objects, max_size=4), max_size=6)


def index_of(data):
    ptr, labels, ignored, ids = [0], [], [], []
    for image in data:
        for k, (bears, flag) in enumerate(image):
            labels += bears
            ignored += [flag] * len(bears)
            ids += [k] * len(bears)
        ptr.append(len(labels))
    return LabelIndex(
        np.array(ptr), np.array(labels, dtype=int), ignored, np.array(ids, dtype=int)
    )


def count_by_hand(data, implied):
    img, obj, pairs = Counter(), Counter(), Counter()
    for image in data:
        seen = set()
        for bears, flag in image:
            if flag:
                continue
            bears = set().union(*(implied[c] for c in bears))
            seen |= bears
            obj.update(bears)
            pairs.update((a, b) for a in bears for b in bears)
        img.update(seen)
    return img, obj, pairs


@settings(deadline=None, max_examples=120)
@given(images)
def test_counts_equal_counting_by_hand(data):
    stats = count_classes(index_of(data), NAMES, MATRIX)
    assert stats.num_images == len(data)
    explicit = {c: {c} for c in range(C)}
    for implied, prefix in ((explicit, ''), (ANCESTORS, 'expanded_')):
        img, obj, pairs = count_by_hand(data, implied)
        assert getattr(stats, f'{prefix}img_count').tolist() == [
            img[c] for c in range(C)
        ]
        assert getattr(stats, f'{prefix}instance_count').tolist() == [
            obj[c] for c in range(C)
        ]
        assert stats.pair_count(expanded=bool(prefix)).tolist() == [
            [pairs[a, b] for b in range(C)] for a in range(C)
        ]


@settings(deadline=None, max_examples=60)
@given(images, st.integers(1, 9))
def test_counts_are_the_same_in_parts(data, cells):
    whole = count_classes(index_of(data), NAMES, MATRIX)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_counting, 'BLOCK_CELLS', cells)
        parts = count_classes(index_of(data), NAMES, MATRIX)
    assert parts.to_dict() == whole.to_dict()


def test_objects_of_many_labels_among_many_classes():
    # Too many for one integer a set.
    num = 600
    rng = np.random.default_rng(0)
    sets = [set(rng.choice(num, 9, replace=False).tolist()) for _ in range(4)]
    data = [[(sets[k % 4], k == 5)] for k in range(9)]
    stats = count_classes(index_of(data), [f'class {k}' for k in range(num)])
    img, obj, pairs = count_by_hand(data, {c: {c} for c in range(num)})
    assert stats.img_count.tolist() == [img[c] for c in range(num)]
    assert stats.instance_count.tolist() == [obj[c] for c in range(num)]
    found = stats.pair_count()
    assert {(a, b): found[a, b] for a, b in np.argwhere(found).tolist()} == pairs
    table, count = object_label_sets(index_of(data), num)
    assert {
        tuple(np.flatnonzero(row)): k for row, k in zip(table, count, strict=True)
    } == {tuple(sorted(s)): n for s, n in zip(sets, (3, 1, 2, 2), strict=True)}


@settings(deadline=None, max_examples=60)
@given(images)
def test_file_round_trip_keeps_every_field(data):
    stats = count_classes(index_of(data), NAMES, MATRIX)
    again = ClassStats.from_dict(json.loads(json.dumps(stats.to_dict())))
    assert again.to_dict() == stats.to_dict()
    for name in ClassStats.__dataclass_fields__:
        assert np.array_equal(getattr(again, name), getattr(stats, name)), name
    assert again.img_count.dtype == np.int64


@settings(deadline=None, max_examples=60)
@given(images, st.permutations(range(C)))
def test_renaming_classes_permutes_the_counts(data, order):
    stats = count_classes(index_of(data), NAMES)
    renamed = [[({order[c] for c in bears}, f) for bears, f in im] for im in data]
    other = count_classes(index_of(renamed), NAMES)
    assert other.img_count[list(order)].tolist() == stats.img_count.tolist()
    assert np.array_equal(other.pair_count()[np.ix_(order, order)], stats.pair_count())


def test_rates_are_conditional_probabilities():
    # Three objects of class 0, one of which bears 2 as well; 0 implies 3 and 4.
    data = [[({0}, False), ({0, 2}, False)], [({0}, False)], [({2}, False)], []]
    stats = count_classes(index_of(data), NAMES, MATRIX)
    rate = stats.concurrent_rate()
    assert rate[0].tolist() == pytest.approx([0, 0, 1 / 3, 1, 1])
    assert rate[2, 0] == pytest.approx(1 / 2)
    assert rate[1].tolist() == [0] * C
    np.testing.assert_array_equal(stats.concurrent_rate('given_col'), rate.T)
    assert stats.concurrent_rate(expanded=False)[0].tolist() == pytest.approx(
        [0, 0, 1 / 3, 0, 0]
    )
    with pytest.raises(ValueError, match='direction'):
        stats.concurrent_rate('both')


def test_statistics_without_expanded_counts_refuse_to_invent_them():
    stats = ClassStats(
        class_names=['a', 'b'],
        img_count=[1, 1],
        instance_count=[1, 1],
        num_images=1,
        ancestor_matrix=[[1, 1], [0, 1]],
    )
    with pytest.raises(ValueError, match='no expanded counts'):
        stats.concurrent_rate()


def test_pairs_are_taken_in_any_form():
    both = dict(class_names=['a', 'b'], num_images=9, img_count=[4, 5])
    matrix = np.array([[6, 2], [2, 7]])
    rows, cols = np.nonzero(matrix)
    stats = ClassStats(
        **both,
        instance_count=[6, 7],
        pair_rows=rows,
        pair_cols=cols,
        pair_values=matrix[rows, cols],
    )
    np.testing.assert_array_equal(stats.pair_count(), matrix)
    assert stats.pair_rows.tolist() == [0]


def test_frequency_groups_are_those_of_lvis():
    counts = np.array([0, 1, 10, 11, 100, 101, 5000])
    assert ''.join(freq_groups(counts)) == 'rrrccff'
    assert ''.join(freq_groups(counts, (0, 5000))) == 'rcccccc'
    with pytest.raises(ValueError, match='thresholds'):
        freq_groups(counts, (100, 10))


def test_imbalance_factor_leaves_out_absent_classes():
    stats = ClassStats(
        class_names=['a', 'b', 'c'],
        img_count=[4, 1, 0],
        instance_count=[30, 3, 0],
        num_images=5,
    )
    assert stats.imbalance_factor() == 10
    assert stats.imbalance_factor('img_count') == 4
    assert np.isnan(count_classes(index_of([[]]), NAMES).imbalance_factor())
    with pytest.raises(ValueError, match='counts'):
        stats.imbalance_factor('boxes')


def test_classes_of_another_dataset_are_listed():
    stats = count_classes(index_of([]), ['cat', 'dog', 'bird'])
    stats.check_classes(('cat', 'dog', 'bird'))
    with pytest.raises(ValueError, match=r"without statistics: 'cow'.*unknown: 'bird'"):
        stats.check_classes(['cat', 'dog', 'cow'])
    with pytest.raises(ValueError, match=r"label 1 is 'dog' and not 'bird'"):
        stats.check_classes(['cat', 'bird', 'dog'])
    with pytest.raises(ValueError, match='3 classes counted, 2 asked for'):
        stats.check_classes(['cat', 'dog'])


GOOD = dict(
    class_names=['a', 'b'], img_count=[2, 1], instance_count=[3, 1], num_images=4
)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(img_count=[2]), r'`img_count` must have shape \(2,\)'),
        (dict(img_count=[2, -1]), 'not be negative'),
        (dict(img_count=[2.0, 1.5]), 'integers'),
        (dict(img_count=[5, 1]), "'a' cannot have more images"),
        (dict(instance_count=[1, 1]), 'more images than objects'),
        (dict(img_count=[0, 1]), "'a' cannot have objects but no image"),
        (dict(class_names=['a', 'a']), 'not repeat'),
        (dict(class_names='ab'), 'must be a sequence of texts'),
        (dict(freq_group=['r', 'x']), 'freq_group'),
        (dict(ancestor_matrix=np.eye(3)), r'shape \(2, 2\)'),
        (dict(ancestor_matrix=[[1, 1], [1, 0]]), 'reflexive'),
        (dict(pair_rows=[0], pair_cols=[1], pair_values=[2]), 'exceed'),
        (dict(pair_rows=[0], pair_cols=[2], pair_values=[1]), r'labels in \[0, 2\)'),
        (dict(pair_rows=[0], pair_cols=[], pair_values=[1]), 'one length'),
        (dict(pair_rows=[0, 1], pair_cols=[1, 0], pair_values=[1, 2]), 'two values'),
        (dict(num_images=-1), 'num_images'),
    ],
)
def test_impossible_values_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ClassStats(**{**GOOD, **change})


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda text: text[: len(text) // 2], 'line .* not valid JSON'),
        (lambda text: '[]', 'not a file of class statistics'),
        (lambda text: text.replace('"version": 1', '"version": 2'), 'version 2'),
        (lambda text: text.replace('img_count', 'image_count'), 'unknown key'),
        (
            lambda text: text.replace('"num_images": 4', '"num_images": 1'),
            'more images',
        ),
    ],
)
def test_spoilt_files_are_refused_with_their_name(tmp_path, spoil, message):
    path = tmp_path / 'stats.json'
    ClassStats(**GOOD).save(path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ValueError, match=message) as error:
        ClassStats.load(path)
    assert 'stats.json' in str(error.value)


def test_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'tools/class_stats\.py'):
        ClassStats.load(tmp_path / 'absent.json')


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'stats.json'
    stats = ClassStats(**GOOD)
    stats.save(path)
    before = path.read_text()
    stats.fingerprint = object()  # cannot be written
    with pytest.raises(TypeError):
        stats.save(path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ['stats.json']


def test_fingerprint_follows_content():
    one = count_classes(LabelIndex.from_lists([[0], [1]]), NAMES)
    same = count_classes(LabelIndex.from_lists([[0], [1]]), NAMES)
    moved = count_classes(LabelIndex.from_lists([[0, 1], []]), NAMES)
    renamed = count_classes(LabelIndex.from_lists([[0], [1]]), NAMES[::-1])
    assert one.fingerprint == same.fingerprint
    assert len({s.fingerprint for s in (one, moved, renamed)}) == 3


def test_label_outside_the_class_list_is_refused():
    with pytest.raises(ValueError, match='label 5'):
        count_classes(LabelIndex.from_lists([[5]]), NAMES)


def test_counts_equal_those_printed_in_the_lvis_file(shared_data):
    data = json.loads((shared_data / 'hdbpmn' / 'train.json').read_text())
    label = {c['id']: k for k, c in enumerate(data['categories'])}
    image = {im['id']: k for k, im in enumerate(data['images'])}
    lists = [[] for _ in image]
    for annotation in data['annotations']:
        lists[image[annotation['image_id']]].append(label[annotation['category_id']])
    names = [c['name'] for c in data['categories']]
    stats = count_classes(LabelIndex.from_lists(lists), names)
    assert stats.img_count.tolist() == [c['image_count'] for c in data['categories']]
    assert stats.instance_count.tolist() == [
        c['instance_count'] for c in data['categories']
    ]
    assert stats.freq_group.tolist() == [c['frequency'] for c in data['categories']]
