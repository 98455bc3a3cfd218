"""Pictures of prototypes and of the clusters around them.

Shapes: N embedded RoIs, M prototypes, C foreground classes (background is index C).
"""

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist, squareform

from mmdet_imbalance.evaluation.prototypes import (
    PrototypeReport,
    principal_axes,
    relative_spread,
)
from mmdet_imbalance.evaluation.report_plots import new_figure, shortened

#: Points drawn of a class: more hide each other.
MAX_POINTS = 150


def distance_matrix(report: PrototypeReport) -> Figure:
    """Distances of all pairs of prototypes, by class; even is one colour."""
    order = np.argsort(report.prototype_class, kind='stable')
    distances = squareform(pdist(report.prototypes[order]))
    names = [shortened(report.names[c], 18) for c in report.prototype_class[order]]
    side = min(max(3.8, 1.6 + 0.17 * len(names)), 20.0)
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    # The diagonal is zero by definition and would take half of the colours.
    np.fill_diagonal(distances, np.nan)
    image = axes.imshow(distances, cmap='viridis')
    figure.colorbar(image, label='distance', shrink=0.8)
    if len(names) <= 100:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set_title('distances of prototypes', fontsize=9)
    return figure


def distance_histogram(report: PrototypeReport) -> Figure:
    """Distances of pairs of prototypes, and of cluster centres; even is one bar."""
    figure = new_figure()
    axes = figure.subplots()
    for name, distances, colour in (
        ('prototypes', pdist(report.prototypes), '#0072b2'),
        ('cluster centres', report.centre_distances(), '#e69f00'),
    ):
        if len(distances):
            axes.hist(
                distances / distances.mean(),
                bins=np.linspace(0, 2.5, 51),
                weights=np.full(len(distances), 1.0 / len(distances)),
                histtype='step',
                color=colour,
                label=f'{name}, relative spread {relative_spread(distances):.2f}',
            )
    axes.set_xlabel('distance of a pair over the mean')
    axes.set_ylabel('part of the pairs')
    axes.legend(fontsize=8)
    return figure


def cluster_projection(report: PrototypeReport) -> Figure:
    """RoIs on the first two principal axes of the foreground, and the prototypes."""
    num_classes = len(report.class_names)
    foreground = report.labels < num_classes
    mean, principal, parts = principal_axes(report.embeddings[foreground])
    points = (report.embeddings - mean) @ principal.T
    stars = (report.prototypes - mean) @ principal.T
    figure = new_figure(7.5, 5.5)
    axes = figure.subplots()
    colours = _colours(num_classes)
    for c in range(num_classes + 1):
        chosen = np.flatnonzero(report.labels == c)[:MAX_POINTS]
        own = report.prototype_class == c
        if not len(chosen) and not own.any():
            continue
        axes.scatter(
            *points[chosen].T,
            s=8,
            alpha=0.5,
            color=colours[c],
            linewidths=0,
            label=shortened(report.names[c]),
        )
        axes.scatter(
            *stars[own].T, s=90, marker='*', color=colours[c], edgecolors='black'
        )
    axes.set_xlabel(f'first axis, {100 * parts[0]:.0f} % of the variance')
    axes.set_ylabel(f'second axis, {100 * parts[1]:.0f} %')
    axes.set_title('RoIs (dots) and prototypes (stars)', fontsize=9)
    figure.legend(loc='outside right upper', fontsize=7, frameon=False)
    return figure


def _colours(num_classes: int) -> list:
    """Hues around the circle, two shades in turn; the background grey."""
    from matplotlib.colors import hsv_to_rgb

    rows = [(c / num_classes, 0.85, 0.95 - 0.35 * (c % 2)) for c in range(num_classes)]
    return [*map(tuple, hsv_to_rgb(np.array(rows).reshape(-1, 3))), (0.6, 0.6, 0.6)]
