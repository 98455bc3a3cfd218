"""Joining annotations of one object, against loops over the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.same_object import merge_same_objects, same_object_pairs

C = 5
# 0 < 1 < 2 (0 is the most specific), 3 and 4 are alone.
MATRIX = np.eye(C, dtype=bool)
MATRIX[0, [1, 2]] = MATRIX[1, 2] = True


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    union = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - common
    return common / union if union > 0 else 0.0


def join_by_hand(boxes, image, labels, thr):
    """Rows of each object, first come first served, every two of them a pair."""
    objects = []
    for row in range(len(labels)):
        for rows in objects:
            if all(
                image[row] == image[r]
                and labels[row] != labels[r]
                and iou(boxes[row], boxes[r]) >= thr
                for r in rows
            ):
                rows.append(row)
                break
        else:
            objects.append([row])
    return objects


@st.composite
def annotations(draw):
    """Boxes that are likely to be near others, some without area."""
    num = draw(st.integers(0, 12))
    corner = st.sampled_from([0, 1, 2, 40])
    size = st.sampled_from([0, 20, 20, 21, 22, 30])
    rows = []
    for _ in range(num):
        x, y, w, h = draw(corner), draw(corner), draw(size), draw(size)
        rows.append((draw(st.integers(0, 2)), draw(st.integers(0, C - 1)), x, y, w, h))
    rows = np.array(sorted(rows, key=lambda r: r[0]), dtype=float).reshape(-1, 6)
    boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:]], axis=1)
    return boxes, rows[:, 0].astype(int), rows[:, 1].astype(int)


@settings(deadline=None, max_examples=300)
@given(annotations(), st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_objects_are_those_of_the_definition(data, thr):
    boxes, image, labels = data
    objects = join_by_hand(boxes, image, labels, thr)
    merged = merge_same_objects(boxes, image, labels, MATRIX, thr)
    expected = {}
    for rows in objects:
        specific = [
            r
            for r in rows
            if not any(s != r and MATRIX[labels[s], labels[r]] for s in rows)
        ]
        specific.sort(key=lambda r: (-MATRIX[labels[r]].sum(), r))
        expected[specific[0]] = tuple(labels[r] for r in specific)
    assert merged.keep.tolist() == sorted(expected)
    assert merged.labels.tolist() == [expected[r][0] for r in merged.keep]
    assert merged.sets == {
        place: expected[row]
        for place, row in enumerate(merged.keep.tolist())
        if len(expected[row]) > 1
    }
    removed = len(labels) - len(merged.keep)
    assert merged.num_concurrent + merged.num_implied == removed


@settings(deadline=None, max_examples=200)
@given(annotations(), st.sampled_from([0.3, 0.9, 1.0]))
def test_pairs_are_all_pairs(data, thr):
    boxes, image, labels = data
    first, second = same_object_pairs(boxes, image, labels, thr)
    num = len(labels)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [
        (a, b)
        for a in range(num)
        for b in range(a + 1, num)
        if image[a] == image[b]
        and labels[a] != labels[b]
        and iou(boxes[a], boxes[b]) >= thr
    ]


def test_a_chain_is_no_object():
    # a and b, b and c overlap enough, a and c do not: c stays alone.
    boxes = np.array([[0, 0, 100, 10], [5, 0, 105, 10], [10, 0, 110, 10]])
    merged = merge_same_objects(boxes, np.zeros(3), np.array([0, 3, 4]), MATRIX, 0.9)
    assert merged.keep.tolist() == [0, 2]
    assert merged.sets == {0: (0, 3)}


def test_class_and_ancestor_become_the_specific_one():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10.5], [0, 0, 10, 10]])
    merged = merge_same_objects(boxes, np.zeros(3), np.array([2, 0, 1]), MATRIX, 0.9)
    assert (merged.keep.tolist(), merged.labels.tolist()) == ([1], [0])
    assert merged.sets == {}
    assert (merged.num_concurrent, merged.num_implied) == (0, 2)


@pytest.mark.parametrize('thr', [0, -1, 1.1])
def test_impossible_threshold_is_refused(thr):
    with pytest.raises(ValueError, match='iou_thr'):
        same_object_pairs(np.zeros((0, 4)), np.zeros(0), np.zeros(0), thr)
