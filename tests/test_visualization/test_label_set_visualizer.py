"""What the visualiser hands to the drawing functions, and that ink appears."""

import itertools

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmdet_imbalance.registry import VISUALIZERS
from mmdet_imbalance.visualization.label_set_visualizer import place_text

CLASSES = ('animal', 'fish', 'shark', 'thing')
TREE = np.eye(4, dtype=bool)
for child, ancestor in ((1, 0), (2, 1), (2, 0)):
    TREE[child, ancestor] = True
META = dict(
    classes=CLASSES,
    palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)],
    ancestor_matrix=TREE.tolist(),
)
BOXES = torch.tensor(
    [[20.0, 20, 90, 90], [20, 20, 90, 91], [120, 30, 180, 100], [20, 21, 90, 90]]
)


NUMBERS = itertools.count()


def build(meta=META, **kwargs):
    # The host keeps one instance of each name for good.
    name = f'label-set-test-{next(NUMBERS)}'
    visualizer = VISUALIZERS.build(
        dict(type='mmdet_imbalance.LabelSetVisualizer', name=name, **kwargs)
    )
    visualizer.dataset_meta = meta
    return visualizer


def sample(**gt):
    data_sample = DetDataSample()
    data_sample.pred_instances = InstanceData(
        bboxes=BOXES,
        labels=torch.tensor([1, 2, 3, 0]),
        scores=torch.tensor([0.6, 0.9, 0.8, 0.5]),
    )
    if gt:
        data_sample.gt_instances = InstanceData(**gt)
    return data_sample


def spy(visualizer, monkeypatch):
    texts, boxes = [], []
    draw_texts, draw_bboxes = visualizer.draw_texts, visualizer.draw_bboxes

    def keep_text(text, position, **kwargs):
        texts.append((text, position.tolist(), kwargs))
        return draw_texts(text, position, **kwargs)

    def keep_box(box, **kwargs):
        boxes.append(box.tolist())
        return draw_bboxes(box, **kwargs)

    monkeypatch.setattr(visualizer, 'draw_texts', keep_text)
    monkeypatch.setattr(visualizer, 'draw_bboxes', keep_box)
    return texts, boxes


def test_each_object_is_drawn_once_with_its_label_set(tmp_path, monkeypatch):
    visualizer = build()
    texts, boxes = spy(visualizer, monkeypatch)
    image = np.full((120, 200, 3), 127, dtype=np.uint8)
    visualizer.add_datasample(
        'a', image, sample(), draw_gt=False, out_file=str(tmp_path / 'a.png')
    )
    assert (tmp_path / 'a.png').stat().st_size > 0
    assert boxes == [[BOXES[1].tolist()], [BOXES[2].tolist()]]
    assert [text for text, _, _ in texts] == [
        'shark: 90.0',
        'fish: 60.0',
        'animal: 50.0',
        'thing: 80.0',
    ]
    heights = [position[1] for _, position, _ in texts[:3]]
    assert heights == sorted(heights)
    assert len(set(heights)) == 3
    colours = [kwargs['colors'][0] for _, _, kwargs in texts]
    assert colours[0] == (0, 0, 255)
    assert colours[1] == colours[2] == (150, 150, 150)
    assert colours[3] == (255, 255, 0)


def test_ink_is_near_the_boxes_and_nowhere_far():
    visualizer = build(line_width=1)
    image = np.full((300, 400, 3), 127, dtype=np.uint8)
    data_sample = sample()
    visualizer.add_datasample('a', image, data_sample, draw_gt=False)
    drawn = visualizer.get_image()
    assert drawn.shape == image.shape
    changed = np.abs(drawn.astype(int) - 127).max(axis=2) > 40
    assert changed[19:23, 20:90].any()
    assert not changed[160:].any()
    assert not changed[:, 330:].any()


def test_multi_labels_of_the_ground_truth():
    visualizer = build(add_ancestors=False)
    sets = torch.zeros(1, 4, dtype=torch.bool)
    sets[0, [1, 2, 3]] = True
    instances = InstanceData(
        bboxes=BOXES[:1], labels=torch.tensor([2]), multi_labels=sets
    )
    ((_, lines),) = visualizer.objects_of(instances)
    assert [tuple(line) for line in lines] == [
        (2, None, False),
        (3, None, False),
        (1, None, True),
    ]


def test_host_relation_matrix_is_understood():
    meta = dict(classes=CLASSES, RELATION_MATRIX=TREE.astype(int))
    ((_, lines),) = build(meta).objects_of(
        InstanceData(bboxes=BOXES[:1], labels=torch.tensor([2]))
    )
    assert [line.label for line in lines] == [2, 1, 0]


def test_without_metainfo_and_without_objects(tmp_path):
    visualizer = build({})
    image = np.full((60, 60, 3), 9, dtype=np.uint8)
    data_sample = DetDataSample()
    data_sample.pred_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long(), scores=torch.zeros(0)
    )
    visualizer.add_datasample('a', image, data_sample, draw_gt=False)
    assert np.array_equal(visualizer.get_image(), image)
    visualizer.add_datasample('b', image, sample(), draw_gt=False)


def test_gt_and_prediction_side_by_side(tmp_path):
    visualizer = build()
    image = np.full((120, 200, 3), 127, dtype=np.uint8)
    both = sample(bboxes=BOXES[:1], labels=torch.tensor([2]))
    visualizer.add_datasample('a', image, both)
    assert visualizer.get_image().shape == (120, 400, 3)


def test_long_label_sets_say_how_many_are_missing(monkeypatch):
    visualizer = build(max_labels=2)
    texts, _ = spy(visualizer, monkeypatch)
    image = np.full((120, 200, 3), 127, dtype=np.uint8)
    visualizer.add_datasample('a', image, sample(), draw_gt=False)
    assert [text for text, _, _ in texts] == [
        'shark: 90.0',
        'and 2 more',
        'thing: 80.0',
    ]


def test_text_of_a_large_box_stands_in_its_corner():
    place = place_text([10, 20, 210, 220], np.array([60, 30]), (300, 300), [], 3)
    assert place.tolist() == [13, 23]


def test_text_of_a_small_box_covers_least_of_the_others():
    box, block = np.array([100.0, 100, 130, 130]), np.array([50.0, 40])
    image = (300, 300)
    assert place_text(box, block, image, [box], 2).tolist() == [132, 100]
    right = np.array([135.0, 90, 200, 131])
    assert place_text(box, block, image, [box, right], 2).tolist() == [100, 132]
    below = np.array([90.0, 135, 200, 190])
    others = [box, right, below]
    assert place_text(box, block, image, others, 2).tolist() == [48, 100]
    assert place_text(box, block, (145, 300), [box, below], 2).tolist() == [48, 100]


def test_text_without_room_stands_on_the_box():
    box = np.array([1.0, 1, 30, 30])
    place = place_text(box, np.array([50.0, 40]), (35, 35), [box], 2)
    assert place.tolist() == [3, 3]


@pytest.mark.parametrize(
    ('name', 'value'),
    [('same_object_iou', 0.0), ('same_object_iou', 1.5), ('max_labels', 0)],
)
def test_refuses_bad_arguments(name, value):
    with pytest.raises(ValueError, match=name):
        build(**{name: value})
