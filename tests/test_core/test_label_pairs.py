import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.concurrent_rate import is_tree_order
from mmdet_imbalance.core.label_sets import (
    MultiLabelTarget,
    label_pairs,
    primary_labels,
)


def random_ancestors(num_classes, gen):
    """Reflexive and transitive: edges go from a class to smaller ones."""
    direct = torch.rand(num_classes, num_classes, generator=gen) < 0.3
    matrix = torch.tril(direct, -1) | torch.eye(num_classes, dtype=torch.bool)
    for _ in range(num_classes):
        matrix = (matrix.float() @ matrix.float()) > 0
    return matrix


def expected_of_row(labels, ancestors):
    """Closed set, most specific labels, ignored classes of one row, by sets."""
    num_classes = len(ancestors)
    closed = {a for i in labels for a in range(num_classes) if ancestors[i][a]}
    specific = {
        i for i in closed if not any(j != i and ancestors[j][i] for j in closed)
    }
    below = {j for i in specific for j in range(num_classes) if ancestors[j][i]}
    return closed, specific, below - closed


@settings(deadline=None, max_examples=60)
@given(
    num_rows=st.integers(0, 7),
    num_classes=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    form=st.sampled_from(['labels', 'dense', 'positives']),
    has_tree=st.booleans(),
)
def test_pairs_follow_the_definition(num_rows, num_classes, seed, form, has_tree):
    gen = torch.Generator().manual_seed(seed)
    tree = random_ancestors(num_classes, gen)
    sets = torch.rand(num_rows, num_classes, generator=gen) < 0.3
    labels = torch.randint(0, num_classes + 1, (num_rows,), generator=gen)
    pos_inds = None
    if form == 'labels':
        sets = torch.nn.functional.one_hot(labels, num_classes + 1)[:, :-1].bool()
    given_sets = None if form == 'labels' else sets
    if form == 'positives':
        pos_inds = torch.randperm(num_rows, generator=gen)
        pos_inds = pos_inds[sets[pos_inds].any(dim=1)]
        given_sets = sets[pos_inds]
    pairs = label_pairs(
        labels, num_classes, pos_inds, given_sets, tree if has_tree else None
    )
    ancestors = (tree if has_tree else torch.eye(num_classes).bool()).tolist()
    got = {}
    for row, label, owner, is_specific in zip(
        pairs.rows.tolist(),
        pairs.classes.tolist(),
        pairs.owner.tolist(),
        pairs.is_specific.tolist(),
        strict=True,
    ):
        assert pairs.pos_rows[owner] == row
        closed, specific, _ = got.setdefault(row, (set(), set(), set()))
        closed.add(label)
        if is_specific:
            specific.add(label)
    for owner, row in enumerate(pairs.pos_rows.tolist()):
        assert int(pairs.num_labels[owner]) == len(got[row][0])
        if pairs.ignored is not None:
            got[row][2].update(pairs.ignored[owner].nonzero().flatten().tolist())
        if pairs.label_sets is not None:
            assert (
                set(pairs.label_sets[owner].nonzero().flatten().tolist())
                == (got[row][0])
            )
    expected = {
        row: expected_of_row(of_row.nonzero().flatten().tolist(), ancestors)
        for row, of_row in enumerate(sets)
        if of_row.any()
    }
    assert got == expected


def test_rows_of_any_number_of_labels():
    """More than 255 labels, where a narrow count would wrap around to none."""
    num = 300
    chain = torch.ones(num, num).tril().bool()
    pairs = label_pairs(torch.tensor([num - 1]), num, ancestors=chain)
    assert len(pairs.rows) == num
    dense = torch.ones(1, num, dtype=torch.bool)
    pairs = label_pairs(None, num, label_sets=dense, ancestors=chain)
    assert pairs.is_specific.nonzero().flatten().tolist() == [num - 1]


@pytest.mark.parametrize(
    ('edges', 'expected'),
    [
        ([], True),
        ([(2, 1), (2, 0), (1, 0)], True),  # A chain.
        ([(1, 0), (2, 0)], True),  # Two children.
        ([(2, 0), (2, 1)], False),  # Two parents that are not related.
    ],
)
def test_tree_order(edges, expected):
    ancestors = torch.eye(4, dtype=torch.bool)
    for child, ancestor in edges:
        ancestors[child, ancestor] = True
    assert is_tree_order(ancestors) is expected


def test_primary_labels_of_every_form():
    labels = torch.tensor([2, 3, 0])
    one_hot = torch.nn.functional.one_hot(labels, 4)
    partial = 2 * one_hot[:, :3].to(torch.int8) - 1  # -1: un-annotated.
    target = MultiLabelTarget(labels, torch.tensor([0]), one_hot[:1, :3].bool())
    for form in (
        labels,
        one_hot,
        one_hot[:, :3].bool(),
        partial,
        target,
        (labels, torch.rand(3)),
    ):
        assert primary_labels(form, 3).tolist() == [2, 3, 0]


@pytest.mark.parametrize('num_rows', [0, 1, 7, 1000])
@pytest.mark.parametrize('width', [1, 100, 10**7])
def test_blocks_cover_all_rows_once(num_rows, width):
    blocks = list(row_blocks(num_rows, width, torch.device('cpu')))
    rows = [row for block in blocks for row in range(block.start, block.stop)]
    assert rows == list(range(num_rows))
