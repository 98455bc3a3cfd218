"""The picture of the epochs shows every group, whatever its figures."""

import numpy as np
import pytest
from PIL import Image

from mmdet_imbalance.visualization import epoch_plot
from mmdet_imbalance.visualization.epoch_plot import COLOURS, plot_epochs

GROUPS = dict(head=np.array([0]), middle=np.array([1, 2]), tail=np.array([3, 4]))
NATURAL = np.array([400.0, 90, 60, 8, 1])


def colours_of(path):
    """Share of pixels of each group's colour, in the picture without its labels."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'), dtype=int)
    found = {}
    for name, colour in COLOURS.items():
        wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        found[name] = (np.abs(pixels - wanted).max(axis=2) < 8).mean()
    return found


@pytest.mark.parametrize(
    'images',
    [
        np.stack([NATURAL, NATURAL, NATURAL**0.5 * 9]),
        # Classes that some epochs do not show, one epoch, and all means alike.
        np.stack([NATURAL * 0.01, NATURAL * 0]),
        NATURAL[None],
        np.full((4, 5), 7.0),
    ],
    ids=['hybrid', 'unseen classes', 'one epoch', 'equal'],
)
def test_every_group_is_seen(tmp_path, images):
    path = tmp_path / 'epochs.png'
    plot_epochs(np.arange(len(images)), images, GROUPS, path, 'title')
    assert min(colours_of(path).values()) > 1e-4
    assert list(tmp_path.iterdir()) == [path]


def test_a_group_without_classes_is_left_out(tmp_path):
    groups = GROUPS | dict(tail=np.zeros(0, dtype=int))
    plot_epochs(np.arange(1), NATURAL[None], groups, tmp_path / 'epochs.png')
    found = colours_of(tmp_path / 'epochs.png')
    assert found['tail'] == 0
    assert found['middle'] > 0


def test_labels_keep_their_distance_and_stay_inside(tmp_path, monkeypatch):
    placed = []
    monkeypatch.setattr(
        'matplotlib.axes.Axes.annotate',
        lambda self, text, place, **kwargs: placed.append((text, place[1])),
    )
    images = np.stack([NATURAL, [7.0, 7.1, 7.1, 7.2, 7.2]])
    plot_epochs(np.arange(2), images, GROUPS, tmp_path / 'epochs.png')
    assert placed[0][0] == 'head, 1 class\nmean 400 to 7'
    heights = sorted(height for _, height in placed)
    assert np.diff(heights).min() >= epoch_plot.LABEL_GAP - 1e-9
    assert heights[-1] <= 1
