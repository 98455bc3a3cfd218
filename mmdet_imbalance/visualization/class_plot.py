"""Class frequencies as a picture.

Shapes: C classes.
"""

from pathlib import Path

import numpy as np

from mmdet_imbalance.core.atomic_write import atomic_path
from mmdet_imbalance.core.class_histogram import (
    GROUP_NAMES,
    LONGEST_NAME,
    by_count,
    number,
    short,
)
from mmdet_imbalance.core.class_stats import ClassStats

#: Told apart by those who see no red or green, and in print.
GROUP_COLOURS = {'f': '#0072b2', 'c': '#e69f00', 'r': '#cc3311'}


def plot_histogram(stats: ClassStats, path: str | Path) -> None:
    """Write a picture: objects and images of each class, most frequent first.

    Args:
        stats: what to show.
        path: file to write; its suffix chooses the format.
    """
    # Agg draws into memory: no display is needed and no global state is changed.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    order = by_count(stats)
    named = len(order) <= 60
    figure = Figure(figsize=(max(6.0, 0.22 * len(order)) if named else 10, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = [GROUP_COLOURS[stats.freq_group[k]] for k in order]
    positions = np.arange(len(order))
    axes.bar(positions, stats.instance_count[order], color=colours, width=0.8)
    axes.plot(positions, stats.img_count[order], 'k.', markersize=3, label='images')
    axes.set_yscale('symlog', linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel('objects (bars), images (dots)')
    axes.set_xlabel('classes by number of objects')
    if named:
        names = [short(stats.class_names[k], LONGEST_NAME) for k in order]
        axes.set_xticks(positions, names, rotation=90, fontsize=7)
    handles = [
        Patch(
            color=GROUP_COLOURS[group],
            label=f'{name} ({int((stats.freq_group == group).sum())})',
        )
        for group, name in GROUP_NAMES.items()
    ]
    axes.legend(handles=[*handles, axes.lines[0]])
    axes.set_title(
        f'{stats.num_classes} classes, {stats.num_images} images, '
        f'imbalance factor {number(stats.imbalance_factor())}'
    )
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
