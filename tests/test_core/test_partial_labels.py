import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.partial_labels import (
    annotated_classes,
    multi_hot_rows,
    partial_targets,
)
from tests.helpers import oracles_partial as oracle

# animal > fish > shark, animal > bird, toy
ANCESTORS = [{0}, {0, 1}, {0, 1, 2}, {0, 3}, {4}]
MATRIX = torch.tensor([[a in ANCESTORS[c] for a in range(5)] for c in range(5)])


def multi_hot(sets):
    return torch.tensor([[c in s for c in range(5)] for s in sets])


def build(labels, images, present, absent, incomplete):
    annotated = annotated_classes(
        multi_hot(present), multi_hot(absent), multi_hot(incomplete), MATRIX
    )
    return partial_targets(
        torch.tensor(labels), torch.tensor(images), annotated, multi_hot(absent), MATRIX
    )


sets = st.lists(st.sets(st.integers(0, 4)), min_size=2, max_size=2)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=9),
    sets,
    sets,
    sets,
)
def test_equals_the_sets(rois, present, absent, incomplete):
    labels, images = zip(*rois, strict=True)
    got = build(labels, images, present, absent, incomplete)
    want = [
        oracle.target_of_roi(c, present[i], absent[i], incomplete[i], ANCESTORS)
        for c, i in rois
    ]
    assert got.dtype == torch.int8
    assert got.tolist() == want


def test_ancestors_positive_descendants_neither():
    (row,) = build([1], [0], [{1, 4}], [set()], [set()]).tolist()
    assert row == [1, 1, -1, -1, 0]


def test_verified_absent_reaches_the_descendants_and_the_background():
    fish, background = build([1, 5], [0, 0], [{1}], [{2, 3}], [set()]).tolist()
    assert fish == [1, 1, 0, 0, -1]
    assert background == [0, 0, 0, 0, -1]


def test_not_exhaustive_classes_say_nothing_about_other_rois():
    (row,) = build([5], [0], [{1, 4}], [set()], [{1}]).tolist()
    assert row == [-1, -1, -1, -1, 0]


def test_explicit_label_sets_take_the_place_of_labels():
    # A toy shark: animal > fish > shark and toy; a RoI of the background beside it.
    target = partial_targets(
        torch.tensor([5, 4, 0]),
        torch.tensor([0, 0, 0]),
        multi_hot([{0, 1, 3}]),
        multi_hot([set()]),
        MATRIX,
        torch.tensor([1, 2]),
        multi_hot([{4, 1}, {0}]),
    )
    assert target.tolist() == [
        [0, 0, -1, 0, -1],
        [1, 1, -1, 0, 1],
        [1, -1, -1, -1, -1],
    ]


def test_lists_of_labels_become_rows():
    got = multi_hot_rows([[1, 3], [], (0,)], 4)
    assert got.tolist() == [
        [False, True, False, True],
        [False] * 4,
        [True, False, False, False],
    ]
    with pytest.raises(ValueError, match=r'in \[0, 4\)'):
        multi_hot_rows([[4]], 4)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match='annotated'):
        partial_targets(
            torch.zeros(1).long(),
            torch.zeros(1).long(),
            torch.zeros(1, 4, dtype=torch.bool),
            torch.zeros(1, 4, dtype=torch.bool),
            MATRIX,
        )
