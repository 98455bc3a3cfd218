"""Box counting against loops and against shapes whose dimension is known."""

import math

import numpy as np
import pytest

from mmdet_imbalance.core.fractal_dimension import fractal_dimension


def by_loops(points, finest_grid):
    """Slope of log(cells with a point) over log(grid), by numpy's own line fit."""
    x, y = [], []
    for grid in range(1, finest_grid + 1):
        if grid * grid > len(points):
            break
        cells = {(int(px * grid), int(py * grid)) for px, py in points}
        x.append(math.log(grid))
        y.append(math.log(len(cells)))
    return max(1.0, np.polyfit(x, y, 1)[0]) if len(x) > 1 else 1.0


@pytest.mark.parametrize('finest_grid', [2, 7, 64])
def test_equals_loops(finest_grid):
    rng = np.random.default_rng(0)
    sizes = [0, 1, 3, 4, 9, 50, 700]
    points = [rng.random((n, 2)) ** rng.uniform(0.5, 3) for n in sizes]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(labels))
    got = fractal_dimension(
        np.concatenate(points)[order], labels[order], len(sizes), finest_grid
    )
    expected = [by_loops(p.tolist(), finest_grid) for p in points]
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_even_spread_line_and_point():
    rng = np.random.default_rng(1)
    num = 20_000
    even = rng.random((num, 2))
    line = np.stack([rng.random(num), np.full(num, 0.3)], axis=1)
    point = np.full((num, 2), 0.4)
    labels = np.repeat([0, 1, 2], num)
    got = fractal_dimension(np.concatenate([even, line, point]), labels, 3)
    assert got[0] == pytest.approx(2, abs=0.05)
    assert got[1] == pytest.approx(1, abs=0.05)
    assert got[2] == 1


def test_centres_on_and_beyond_the_edge_count_for_the_nearest_cell():
    inside = np.array([[0.0, 0.0], [0.99, 0.0], [0.0, 0.99], [0.99, 0.99]])
    beyond = np.array([[-0.2, 0.0], [1.0, 0.0], [0.0, 1.3], [1.0, 1.0]])
    labels = np.zeros(4, dtype=int)
    one, other = (fractal_dimension(c, labels, 1) for c in (inside, beyond))
    assert one == other == pytest.approx(2)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'`centers` must have shape \(2, 2\)'):
        fractal_dimension(np.zeros((3, 2)), np.zeros(2, int), 1)
    with pytest.raises(ValueError, match='`finest_grid` must be at least 2, got 1'):
        fractal_dimension(np.zeros((2, 2)), np.zeros(2, int), 1, 1)
    assert fractal_dimension(np.zeros((0, 2)), np.zeros(0, int), 3).tolist() == [
        1,
        1,
        1,
    ]
