"""The demo's table and pictures."""

import json

import cv2
import numpy as np
import pytest

from mmdet_imbalance.cli import demo_report

NAMES = ('a', 'b', 'c')
META = dict(
    classes=NAMES, palette=[(255, 0, 0)] * 3, ancestor_matrix=np.eye(3, dtype=bool)
)


def figures(*values):
    return [
        {key: value for key in demo_report.COLUMNS} | {'minutes': 2.0}
        for value in values
    ]


def cells(text, row):
    line = next(line for line in text.splitlines() if line.startswith(row))
    return [cell.strip() for cell in line[len(row) :].split('  ') if cell.strip()]


def test_table_of_one_seed():
    text = demo_report.table({'stock': figures(0.4), 'new': figures(0.45)})
    assert cells(text, 'stock') == ['40.0'] * 6 + ['2.0']
    assert cells(text, 'new') == ['45.0'] * 6 + ['2.0']
    assert cells(text, 'difference') == ['+5.0'] * 6
    assert 'seeds' not in text


def test_differences_are_taken_seed_by_seed():
    old, new = (0.30, 0.40, 0.50), (0.32, 0.43, 0.49)
    text = demo_report.table({'stock': figures(*old), 'new': figures(*new)})
    gains = 100 * (np.array(new) - np.array(old))
    # Far smaller than the spread of either: the pairs tell.
    assert (
        cells(text, 'difference')[0] == f'+{gains.mean():.1f} ± {gains.std(ddof=1):.1f}'
    )
    assert cells(text, 'stock')[0] == '40.0 ± 10.0'
    assert cells(text, 'seeds it rises on')[0] == '2 of 3'


def test_average_over_nothing_is_a_dash():
    text = demo_report.table({'stock': figures(-1.0), 'new': figures(0.5)})
    assert cells(text, 'stock')[:6] == ['-'] * 6
    assert cells(text, 'difference')[:6] == ['-'] * 6


@pytest.fixture
def prefix(tmp_path):
    """Three images of one class each; c is the rarest."""
    counts = {1: 90, 2: 40, 3: 2}
    groups = {1: 'c', 2: 'c', 3: 'r'}
    annotation = {
        'images': [{'id': i, 'file_name': f'{i}.png'} for i in (1, 2, 3)],
        'annotations': [
            {'image_id': i, 'category_id': i, 'bbox': [5, 6, 20, 15]} for i in (1, 2, 3)
        ],
        'categories': [
            {'id': i, 'name': name, 'image_count': counts[i], 'frequency': groups[i]}
            for i, name in enumerate(NAMES, start=1)
        ]
        + [{'id': 9, 'name': 'unseen', 'image_count': 0, 'frequency': 'r'}],
    }
    (tmp_path / 'r.gt.json').write_text(json.dumps(annotation))
    rows = [
        {'image_id': 3, 'category_id': 3, 'bbox': [5, 6, 20, 15], 'score': score}
        for score in (0.9, 0.01)
    ]
    (tmp_path / 'r.bbox.json').write_text(json.dumps(rows))
    return tmp_path / 'r'


def test_group_sizes_count_classes_of_the_test_set(prefix):
    text = demo_report.group_sizes(demo_report.read_annotation(prefix))
    assert text == '2 common (on 40 to 90 images), 1 rare (on 2 to 2 images)'


def test_plot_has_a_point_for_each_class_with_ap(prefix, tmp_path, monkeypatch):
    annotation = demo_report.read_annotation(prefix)
    one = {f'coco/AP_{name}': 0.1 * k for k, name in enumerate(NAMES)}
    one['coco/AP_unseen'] = -1.0
    drawn = []
    from matplotlib.axes import Axes

    scatter = Axes.scatter
    monkeypatch.setattr(
        Axes, 'scatter', lambda *a, **k: (drawn.append(a[1:]), scatter(*a, **k))[1]
    )
    demo_report.plot_ap_by_frequency(tmp_path / 'p.png', {'x': [one]}, [annotation])
    ((counts, values),) = drawn
    assert counts.tolist() == [90, 40, 2]
    assert values == pytest.approx([0.0, 10.0, 20.0])
    assert (tmp_path / 'p.png').stat().st_size > 0


def test_pictures_are_of_the_rarest_classes(prefix, tmp_path):
    images = {k: np.full((40, 50, 3), 10 * k, dtype=np.uint8) for k in range(3)}
    files = demo_report.draw_detections(
        tmp_path, {'stock': prefix, 'new': prefix}, images, META, 2
    )
    assert [path.name for path in files] == [
        'detections-0002.png',
        'detections-0001.png',
    ]
    picture = cv2.imread(str(files[0]))
    zoom = demo_report.ZOOM
    assert picture.shape == (28 + 40 * zoom, 3 * 50 * zoom, 3)
    # The box is drawn in red (BGR) on its left side, in each of the three panels.
    for panel in range(3):
        x, y = panel * 50 * zoom + 5 * zoom, 28 + 18 * zoom
        pixels = picture[y, x - 2 : x + 3].astype(int)
        assert (pixels[:, 2] - pixels[:, 0]).max() > 60


def test_tree_plot(tmp_path):
    demo_report.plot_tree(tmp_path / 't.png', 'title', {'tree/AP_a': 0.5}, META)
    assert (tmp_path / 't.png').stat().st_size > 0
