import math

import numpy as np
import pytest

from mmdet_imbalance.evaluation.prototypes import (
    PrototypeReport,
    class_centres,
    cluster_radii,
    principal_axes,
    random_spread,
    relative_spread,
)
from mmdet_imbalance.visualization import prototype_plots as plots

NAMES = ('often', 'seldom', 'never')


def report(spread=(1.0, 4.0), num=40, dims=5, seed=0):
    """Two clusters of given spread around equidistant prototypes, and background."""
    rng = np.random.default_rng(seed)
    prototypes = 30.0 * np.eye(len(NAMES) + 1, dims)
    parts, labels = [], []
    for c, sigma in ((0, spread[0]), (1, spread[1]), (3, 2.0)):
        parts.append(prototypes[c] + sigma * rng.standard_normal((num, dims)))
        labels += [c] * num
    return PrototypeReport(
        NAMES,
        prototypes,
        np.arange(4),
        np.concatenate(parts),
        np.array(labels),
        np.array([500, 20, 3]),
    )


def test_radii_and_centres_equal_the_loops():
    rng = np.random.default_rng(1)
    points, labels = rng.standard_normal((12, 3)), rng.integers(0, 4, 12)
    labels[labels == 2] = 3
    labels[0] = 2
    radii, centres = cluster_radii(points, labels, 5), class_centres(points, labels, 5)
    for c in range(5):
        own = [p for p, k in zip(points.tolist(), labels, strict=True) if k == c]
        if not own:
            assert np.isnan(centres[c]).all()
        else:
            mean = [sum(column) / len(own) for column in zip(*own, strict=True)]
            np.testing.assert_allclose(centres[c], mean)
        if len(own) < 2:
            assert math.isnan(radii[c])
            continue
        squared = [sum((a - b) ** 2 for a, b in zip(p, mean, strict=True)) for p in own]
        assert radii[c] == pytest.approx(math.sqrt(sum(squared) / (len(own) - 1)))


def test_radius_does_not_shrink_with_the_number_of_rois():
    points = np.random.default_rng(0).standard_normal((3000, 8))
    few = cluster_radii(points, np.arange(3000) // 3, 1000)
    assert np.sqrt(np.square(few).mean()) == pytest.approx(math.sqrt(8), rel=0.03)


def test_spread_is_zero_for_equidistant_points_and_has_no_unit():
    found = report().figures()
    assert found['prototype distances: relative spread'] == pytest.approx(0)
    assert relative_spread([1.0, 2.0, 4.0]) == pytest.approx(
        relative_spread([5.0, 10.0, 20.0])
    )
    assert math.isnan(relative_spread([3.0]))


def test_random_points_are_nearly_equidistant_in_many_dimensions():
    # Squared distances are chi-square with D degrees of freedom: the relative spread
    # of their roots tends to 1 / sqrt(2 D).
    assert random_spread(40, 128) == pytest.approx(1 / 16, rel=0.1)
    assert random_spread(40, 2) > 0.4


def test_clusters_of_unequal_size_are_seen():
    even, uneven = report(spread=(2.0, 2.0)).figures(), report().figures()
    name = 'cluster radii: relative spread'
    assert even[name] < 0.1 < 0.5 < uneven[name]
    table = report().table()
    rows = [line.split('|')[1].strip() for line in table.splitlines()[2:6]]
    assert rows == ['often', 'seldom', 'never', 'background']
    radii = report().radii()
    assert f'| often | 500 | 40 | {radii[0]:.2f} |' in table
    assert math.isnan(radii[2])


def test_axes_find_the_plane_and_its_part_of_the_variance():
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((6, 2)))[0].T
    points = rng.standard_normal((50, 2)) * (5.0, 2.0) @ plane + 7.0
    mean, axes, parts = principal_axes(points)
    assert parts.sum() == pytest.approx(1.0)
    assert parts[0] > parts[1]
    np.testing.assert_allclose((points - mean) @ axes.T @ axes + mean, points)
    with pytest.raises(ValueError, match='2 axes'):
        principal_axes(points[:1])


def test_pictures_show_what_the_figures_say():
    shown = report()
    image = plots.distance_matrix(shown).axes[0].images[0].get_array()
    off_diagonal = image[~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(off_diagonal.astype(float), 30.0 * math.sqrt(2))
    histogram = plots.distance_histogram(shown)
    labels = [text.get_text() for text in histogram.axes[0].get_legend().get_texts()]
    assert labels[0] == 'prototypes, relative spread 0.00'
    projection = plots.cluster_projection(shown).axes[0]
    drawn = sum(len(points.get_offsets()) for points in projection.collections)
    # 120 RoIs and 4 stars; the class without RoIs has its star.
    assert drawn == 124
