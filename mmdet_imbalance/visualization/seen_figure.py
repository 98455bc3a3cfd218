"""What a data sampler showed of each class beside what the dataset has, as a picture.

Shapes: C classes.
"""

from collections.abc import Sequence

import numpy as np

#: Told apart by those who see no red or green, and in print.
SHOWN_COLOUR, DATASET_COLOUR = '#0072b2', '#999999'
#: More names cannot be read.
MOST_NAMES = 60


def seen_picture(
    class_names: Sequence[str], shown: np.ndarray, in_dataset: np.ndarray, title: str
) -> np.ndarray:
    """Share of every class among the objects shown and among those of the dataset.

    Args:
        class_names: C names.
        shown: objects that the sampler showed, shape (C,).
        in_dataset: objects of the dataset, shape (C,); decides the order.
        title: above the picture.

    Returns:
        RGB picture, shape (H, W, 3), uint8.
    """
    # Agg draws into memory: no display is needed and no global state is changed.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.argsort(-in_dataset, kind='stable')
    place = np.arange(len(order))
    named = len(order) <= MOST_NAMES
    figure = Figure(
        figsize=(max(6.0, 0.22 * len(order)) if named else 10.0, 4.0),
        layout='constrained',
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    share = [100 * v[order] / max(v.sum(), 1) for v in (shown, in_dataset)]
    axes.bar(place, share[0], color=SHOWN_COLOUR, label='shown in training')
    axes.step(
        place, share[1], where='mid', color=DATASET_COLOUR, label='in the dataset'
    )
    axes.set_yscale('symlog', linthresh=0.1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel('objects of the class (%)')
    if named:
        names = [name if len(name) <= 24 else f'{name[:23]}…' for name in class_names]
        axes.set_xticks(place, [names[k] for k in order], rotation=90, fontsize=7)
    else:
        axes.set_xlabel('classes by number of objects in the dataset')
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
