"""The class tree with a figure (AP, count, ...) at each node.

Shapes: C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class TreeRow(NamedTuple):
    """A class where it stands in the drawn tree; in several places if need be."""

    label: int
    depth: int


def tree_rows(ancestor_matrix: np.ndarray) -> list[TreeRow]:
    """Classes in the order of an indented list, each below each of its parents.

    Args:
        ancestor_matrix: shape (C, C), `[child, ancestor]`, closed.
    """
    strict = np.array(ancestor_matrix, dtype=bool)
    if strict.ndim != 2 or strict.shape[0] != strict.shape[1]:
        raise ValueError(f'`ancestor_matrix` must be square, got {strict.shape}')
    np.fill_diagonal(strict, False)
    # A direct parent is an ancestor that is reached by no detour.
    counts = strict.astype(np.float32)
    parent = strict & ~(counts @ counts > 0)
    rows: list[TreeRow] = []
    stack = [TreeRow(int(top), 0) for top in np.flatnonzero(~strict.any(axis=1))[::-1]]
    while stack:
        row = stack.pop()
        rows.append(row)
        children = np.flatnonzero(parent[:, row.label])[::-1]
        stack += [TreeRow(int(child), row.depth + 1) for child in children]
    return rows


def hierarchy_figure(
    class_names: Sequence[str],
    ancestor_matrix: np.ndarray,
    values: np.ndarray,
    title: str = 'AP at each node',
    inner_only: bool = False,
):
    """Indented tree with a bar at each node.

    Args:
        class_names: C names.
        ancestor_matrix: shape (C, C), `[child, ancestor]`, closed.
        values: shape (C,), in [0, 1]; nan or negative: nothing to show (a class
            without ground truth).
        title: above the tree.
        inner_only: leave out classes without descendants.

    Returns:
        matplotlib Figure, not shown; save it with `figure.savefig(path)`.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = np.asarray(values, dtype=np.float64)
    matrix = np.asarray(ancestor_matrix, dtype=bool)
    if values.shape != (len(class_names),) or len(matrix) != len(class_names):
        raise ValueError(
            f'`class_names`, `ancestor_matrix` and `values` must be of the same '
            f'classes, got {len(class_names)}, {matrix.shape} and {values.shape}'
        )
    rows = tree_rows(matrix)
    if inner_only:
        has_children = matrix.sum(axis=0) > 1
        rows = [row for row in rows if has_children[row.label]]
    figure = Figure(figsize=(7.5, 1.0 + 0.19 * len(rows)), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = colormaps['viridis']
    for height, row in enumerate(rows):
        value = values[row.label]
        is_known = np.isfinite(value) and value >= 0
        # Names take the left third of the axis, bars the rest.
        axes.text(-0.62 + 0.05 * row.depth, height, class_names[row.label], va='center')
        axes.barh(height, value if is_known else 0.0, color=colours(value))
        text = f'{100 * value:.1f}' if is_known else 'no ground truth'
        axes.text((value if is_known else 0.0) + 0.01, height, text, va='center')
    for text in axes.texts:
        text.set_fontsize(8)
    axes.set_xlim(-0.64, 1.1)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ['0', '25', '50', '75', '100 %'])
    axes.set_title(title)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    return figure
