"""One int an object carries its label set and comes back."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.label_set_table import LabelSetTable

C = 6
sets = st.lists(
    st.lists(st.integers(0, C - 1), min_size=1, max_size=4, unique=True), max_size=8
)


@settings(deadline=None)
@given(sets, st.randoms(use_true_random=False))
def test_ids_decode_to_their_sets(chosen, random):
    table = LabelSetTable(C)
    ids = [table.add(labels) for labels in chosen]
    again = [table.add([lb[0], *random.sample(lb[1:], len(lb) - 1)]) for lb in chosen]
    assert again == ids
    assert table.primary(np.array(ids, dtype=int)).tolist() == [lb[0] for lb in chosen]
    hot = table.multi_hot(np.array(ids, dtype=int))
    assert hot.shape == (len(chosen), C)
    for row, labels in zip(hot, chosen, strict=True):
        assert np.flatnonzero(row).tolist() == sorted(labels)
    assert all((i < C) == (len(lb) == 1) for i, lb in zip(ids, chosen, strict=True))


def test_two_datasets_share_one_numbering():
    one, two = LabelSetTable.shared(977), LabelSetTable.shared(977)
    assert one is two is copy.deepcopy(one)
    assert one.add([3, 5]) == two.add([3, 5])
    assert one.add([5, 3]) != one.add([3, 5])  # another primary label
    rebuilt = pickle.loads(pickle.dumps(one))
    assert rebuilt.sets == one.sets


@pytest.mark.parametrize('labels', [[], [0, 0], [-1, 2], [0, C]])
def test_impossible_sets_are_refused(labels):
    with pytest.raises(ValueError, match='distinct labels'):
        LabelSetTable(C).add(labels)


@pytest.mark.parametrize('label', [-1, C + 1])
def test_unknown_ids_are_refused(label):
    table = LabelSetTable(C, [[0, 1]])
    with pytest.raises(ValueError, match=f'label {label} is neither'):
        table.multi_hot(np.array([0, label]))
