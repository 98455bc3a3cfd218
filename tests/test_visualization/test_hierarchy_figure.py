"""The drawn tree holds every class below each of its parents."""

import numpy as np
import pytest

from mmdet_imbalance.datasets.glyph_vocabulary import CLASSES, ancestor_matrix
from mmdet_imbalance.visualization.hierarchy_figure import hierarchy_figure, tree_rows


def test_rows_of_a_tree_are_an_indented_list():
    matrix = ancestor_matrix()
    rows = tree_rows(matrix)
    assert sorted(row.label for row in rows) == list(range(len(CLASSES)))
    path = []
    for row in rows:
        path = [*path[: row.depth], row.label]
        assert set(path) == set(np.flatnonzero(matrix[row.label]))


def test_class_with_two_parents_stands_below_both():
    # 3 is below 1 and 2, both below 0.
    matrix = np.eye(4, dtype=bool)
    matrix[[1, 2, 3, 3, 3], [0, 0, 0, 1, 2]] = True
    assert [tuple(row) for row in tree_rows(matrix)] == [
        (0, 0),
        (1, 1),
        (3, 2),
        (2, 1),
        (3, 2),
    ]


def test_figure_shows_every_value(tmp_path):
    values = np.linspace(0, 1, len(CLASSES))
    values[3], values[4] = np.nan, -1.0
    figure = hierarchy_figure(CLASSES, ancestor_matrix(), values)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert set(CLASSES) <= set(texts)
    assert texts.count('no ground truth') == 2
    assert f'{100 * values[7]:.1f}' in texts
    figure.savefig(tmp_path / 'tree.png', dpi=40)
    assert (tmp_path / 'tree.png').stat().st_size > 0


def test_inner_nodes_only():
    figure = hierarchy_figure(
        CLASSES, ancestor_matrix(), np.zeros(len(CLASSES)), inner_only=True
    )
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert 'greek' in texts
    assert 'digit-2' not in texts


def test_refuses_other_classes():
    with pytest.raises(ValueError, match='same classes'):
        hierarchy_figure(CLASSES, ancestor_matrix(), np.zeros(3))
    with pytest.raises(ValueError, match='square'):
        tree_rows(np.zeros((2, 3)))
