"""Images of head, middle and tail over the epochs, as a picture.

Shapes: E epochs, C classes.
"""

from pathlib import Path

import numpy as np

from mmdet_imbalance.core.atomic_write import atomic_path

COLOURS = {'head': '#0072b2', 'middle': '#e69f00', 'tail': '#cc3311'}


def plot_epochs(
    epochs: np.ndarray,
    images: np.ndarray,
    groups: dict[str, np.ndarray],
    path: str | Path,
    title: str = '',
) -> None:
    """Write a picture: images an epoch, each class thin and the mean of a group bold.

    Args:
        epochs: shape (E,).
        images: images with the class in each epoch, shape (E, C).
        groups: name to the classes of a group.
        path: file to write; its suffix chooses the format.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # One epoch is drawn as a step of its own length.
    edges = np.append(epochs, epochs[-1] + 1)
    for name, classes in groups.items():
        if not len(classes):
            continue
        values = images[:, classes]
        values = np.concatenate([values, values[-1:]])
        style = dict(color=COLOURS.get(name), where='post')
        for column in values.T:
            axes.step(edges, column, alpha=0.25, linewidth=0.7, **style)
        label = f'{name} ({len(classes)} classes)'
        axes.step(edges, values.mean(axis=1), linewidth=2.5, label=label, **style)
    axes.set_yscale('symlog', linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel('epoch')
    axes.set_ylabel('images with the class in an epoch')
    axes.set_title(title, fontsize=9)
    axes.legend()
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
