"""Images of head, middle and tail over the epochs, as a picture.

Shapes: E epochs, C classes.
"""

from pathlib import Path

import numpy as np

from mmdet_imbalance.core.atomic_write import atomic_path

COLOURS = {'head': '#0072b2', 'middle': '#b36b00', 'tail': '#cc3311'}
#: Least distance of two labels at the side, as a fraction of the height.
LABEL_GAP = 0.11


def plot_epochs(
    epochs: np.ndarray,
    images: np.ndarray,
    groups: dict[str, np.ndarray],
    path: str | Path,
    title: str = '',
) -> None:
    """Write a picture: images an epoch, each class thin and the mean of a group bold.

    The number of images stands on a logarithmic axis, where twice as many is the same
    step for head and tail; beside it stand the means of the first and last epoch.

    Args:
        epochs: shape (E,).
        images: images with the class in each epoch, shape (E, C).
        groups: name to the classes of a group.
        path: file to write; its suffix chooses the format.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    figure = Figure(figsize=(8, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # One epoch is drawn as a step of its own length.
    edges = np.append(epochs, epochs[-1] + 1)
    means = {}
    for name, classes in groups.items():
        if not len(classes):
            continue
        values = np.concatenate([images[:, classes], images[-1:, classes]])
        style = dict(color=COLOURS.get(name), where='post')
        for column in values.T:
            axes.step(edges, column, alpha=0.45, linewidth=0.8, **style)
        means[name] = values.mean(axis=1)
        # A light rim parts the mean from the classes that it crosses.
        axes.step(edges, means[name], linewidth=5, color='white', where='post')
        axes.step(edges, means[name], linewidth=2.8, **style)
    _scale(axes, images[:, np.concatenate([*groups.values(), []]).astype(int)])
    plain = FuncFormatter(lambda value, _: f'{value:g}')
    axes.yaxis.set_major_formatter(plain)
    # Within one decade the ticks between are needed; over more they would crowd.
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(plain if high < 10 * low else NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(axis='y', color='0.9', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_xlabel('epoch')
    axes.set_ylabel('images with the class in an epoch')
    axes.set_title(title, fontsize=9, loc='left')
    _label(axes, means, {name: len(part) for name, part in groups.items()})
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _scale(axes, values: np.ndarray) -> None:
    """Logarithmic, and linear below 1 where a class is seen in some epochs only."""
    high = values.max(initial=1.0)
    low = values.min() if values.size else high
    if low >= 1:
        axes.set_yscale('log')
        axes.set_ylim(low / 1.3, high * 1.3)
    else:
        axes.set_yscale('symlog', linthresh=1)
        axes.set_ylim(0, high * 1.3)


def _label(axes, means: dict[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Names and figures at the right end of the lines, apart from each other."""
    to_axes = (axes.transData + axes.transAxes.inverted()).transform
    place, below = {}, -LABEL_GAP
    for name in sorted(means, key=lambda name: means[name][-1]):
        height = to_axes((axes.get_xlim()[1], means[name][-1]))[1]
        below = place[name] = max(height, below + LABEL_GAP)
    # What was pushed beyond the top moves down again, and pushes what is below.
    above = 1 + LABEL_GAP
    for name in sorted(means, key=lambda name: -means[name][-1]):
        above = place[name] = min(place[name], above - LABEL_GAP)
    for name, values in means.items():
        number = 'class' if sizes[name] == 1 else 'classes'
        change = ' to '.join(f'{values[k]:.0f}' for k in (0, -1))
        axes.annotate(
            f'{name}, {sizes[name]} {number}\nmean {change}',
            (1.015, place[name]),
            xycoords='axes fraction',
            va='center',
            fontsize=9,
            color=COLOURS.get(name),
        )
