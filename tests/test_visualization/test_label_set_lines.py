"""Order of the lines and grouping of the rows, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.visualization.label_set_lines import label_lines, rows_of_objects

# 0 animal > 1 fish > 2 shark, 0 animal > 3 bird, 4 thing.
TREE = np.eye(5, dtype=bool)
for child, ancestor in ((1, 0), (2, 1), (2, 0), (3, 0)):
    TREE[child, ancestor] = True


def test_most_specific_first_and_ancestors_dimmed():
    lines = label_lines([0, 2, 1], [0.9, 0.5, 0.7], TREE)
    assert [tuple(line) for line in lines] == [
        (2, 0.5, False),
        (1, 0.7, True),
        (0, 0.9, True),
    ]


def test_missing_ancestors_are_added_without_a_score():
    assert [tuple(line) for line in label_lines([2], [0.5], TREE)] == [
        (2, 0.5, False),
        (1, None, True),
        (0, None, True),
    ]
    assert [line.label for line in label_lines([2], [0.5], TREE, False)] == [2]


def test_unrelated_labels_are_ordered_by_depth_then_score():
    lines = label_lines([4, 3, 2], [0.9, 0.2, 0.1], TREE, add_ancestors=False)
    assert [line.label for line in lines] == [2, 3, 4]
    assert not any(line.is_dimmed for line in lines)
    lines = label_lines([1, 3], [0.2, 0.9], TREE, add_ancestors=False)
    assert [line.label for line in lines] == [3, 1]


def test_repeated_label_keeps_its_best_score():
    assert [tuple(line) for line in label_lines([4, 4], [0.2, 0.6], TREE)] == [
        (4, 0.6, False)
    ]


def test_without_hierarchy_and_without_scores():
    assert [line.label for line in label_lines([3, 1], [0.1, 0.8])] == [1, 3]
    assert [tuple(line) for line in label_lines([3, 1])] == [
        (1, None, False),
        (3, None, False),
    ]
    assert label_lines([]) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_lines_are_the_closure_of_the_labels(labels):
    lines = label_lines(labels, None, TREE)
    closure = {a for label in labels for a in np.flatnonzero(TREE[label])}
    assert sorted(line.label for line in lines) == sorted(closure)
    for line in lines:
        below = [x for x in closure if x != line.label and TREE[x, line.label]]
        assert line.is_dimmed == bool(below)
    flags = [line.is_dimmed for line in lines]
    assert flags == sorted(flags)


def oracle_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    common = width * height
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / total if total else 0.0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 12), st.floats(0.3, 1.0))
def test_groups_follow_the_best_row(seed, num, thr):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 4, (num, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 5, (num, 2))], axis=1)
    scores = rng.permutation(num) / 100
    groups = rows_of_objects(boxes, scores, thr)
    assert sorted(row for group in groups for row in group) == list(range(num))
    openers = [group[0] for group in groups]
    assert [scores[row] for row in openers] == sorted(scores[openers], reverse=True)
    for number, group in enumerate(groups):
        for row in group[1:]:
            assert scores[row] < scores[group[0]]
            assert oracle_iou(boxes[group[0]], boxes[row]) >= thr
            for earlier in openers[:number]:
                assert oracle_iou(boxes[earlier], boxes[row]) < thr


def test_rows_without_scores_keep_their_order():
    boxes = [[0, 0, 4, 4], [9, 9, 12, 12], [0, 0, 4, 4]]
    groups = rows_of_objects(np.array(boxes), None, 0.9)
    assert [group.tolist() for group in groups] == [[0, 2], [1]]


@pytest.mark.parametrize('shape', [(0, 4), (0,)])
def test_no_rows(shape):
    assert rows_of_objects(np.zeros(shape), np.zeros(0), 0.9) == []
