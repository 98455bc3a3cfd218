"""Mined negatives: which detections, the file, and the way into a training."""

import json

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import PackDetInputs, ProposalBroadcaster
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

from mmdet_imbalance.datasets.transforms.load_hard_negatives import LoadHardNegatives
from mmdet_imbalance.evaluation.boxes import Detections
from mmdet_imbalance.evaluation.coco_file import read_coco
from mmdet_imbalance.evaluation.hard_negatives import (
    hard_negatives,
    read_hard_negatives,
)
from mmdet_imbalance.models.roi_heads.mined_negatives_roi_head import with_mined_boxes
from tests.helpers.tools import load_tool


def annotation(boxes, crowds=()):
    """Boxes (image, class, x, y, w, h); crowds count from 0."""
    return {
        'images': [
            {'id': i, 'file_name': f'{i}.jpg', 'width': 100, 'height': 80}
            for i in (7, 3, 5)
        ],
        'categories': [{'id': 1, 'name': 'a'}, {'id': 4, 'name': 'b'}],
        'annotations': [
            {
                'id': k + 1,
                'image_id': box[0],
                'category_id': box[1],
                'bbox': list(box[2:]),
                'area': box[4] * box[5],
                'iscrowd': int(k in crowds),
            }
            for k, box in enumerate(boxes)
        ],
    }


def overlap(a, b, over_own_area):
    a, b = ([box[0], box[1], box[0] + box[2], box[1] + box[3]] for box in (a, b))
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return inter / (areas[0] if over_own_area else sum(areas) - inter)


@pytest.mark.parametrize('seed', range(5))
def test_equals_the_loop(seed):
    generator = np.random.default_rng(seed)

    def boxes(num):
        corner = generator.uniform(0, 60, (num, 2))
        return np.concatenate([corner, generator.uniform(4, 40, (num, 2))], 1).round(1)

    images = generator.choice([3, 5, 7], 12)
    gt = read_coco(
        annotation(
            [
                (int(i), 1, *box)
                for i, box in zip(images, boxes(12).tolist(), strict=True)
            ],
            crowds=(0, 5),
        )
    )
    found = Detections(
        image_index=generator.integers(0, 3, 60),
        labels=generator.integers(0, 2, 60),
        boxes=boxes(60),
        scores=generator.permutation(60) / 60,
    )
    expected = []
    for image in range(3):
        rows = []
        for i in range(60):
            if found.image_index[i] != image or found.scores[i] < 0.3:
                continue
            touched = False
            for j in range(len(gt.boxes)):
                if gt.image_index[j] == image:
                    value = overlap(found.boxes[i], gt.boxes[j], gt.is_crowd[j])
                    touched |= value > (0.5 if gt.is_crowd[j] else 0.2)
            if not touched:
                rows.append(i)
        rows.sort(key=lambda i: -found.scores[i])
        expected += rows[:4]
    mined = hard_negatives(gt, found, score_thr=0.3, iou_thr=0.2, max_per_image=4)
    assert len(expected) > 3
    assert mined.boxes.tolist() == found.boxes[expected].tolist()
    assert mined.image_index.tolist() == found.image_index[expected].tolist()


def test_boxes_without_area_and_no_detections_are_legal():
    gt = read_coco(annotation([(3, 1, 0, 0, 9, 9)]))
    assert len(hard_negatives(gt, Detections())) == 0
    flat = Detections(
        np.array([0]), np.array([0]), np.array([[50.0, 50, 0, 10]]), np.array([0.9])
    )
    assert len(hard_negatives(gt, flat)) == 0


@pytest.mark.parametrize(
    'bad', [dict(score_thr=2), dict(iou_thr=-0.1), dict(max_per_image=0)]
)
def test_bad_bounds_are_refused(bad):
    gt = read_coco(annotation([(3, 1, 0, 0, 9, 9)]))
    with pytest.raises(ValueError, match=next(iter(bad))):
        hard_negatives(gt, Detections(), **bad)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[', 'no valid JSON'),
        ('[]', 'no file of hard negatives'),
        ('{"format": "mmdet_imbalance.hard_negatives", "version": 9}', 'version'),
        (
            '{"format": "mmdet_imbalance.hard_negatives", "version": 1, '
            '"images": {"3": {"bboxes": [[1, 2, 3]]}}}',
            'broken entry',
        ),
    ],
)
def test_broken_files_are_refused(tmp_path, text, message):
    path = tmp_path / 'mined.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_hard_negatives(path)
    with pytest.raises(FileNotFoundError, match='mine_hard_negatives'):
        read_hard_negatives(tmp_path / 'none.json')


def test_the_tool_writes_what_the_transform_reads(tmp_path, capsys):
    """And resize and flip move the boxes as they move those of objects."""
    register_all_modules(init_default_scope=True)
    ann, results, out = (tmp_path / f'{n}.json' for n in ('ann', 'results', 'out'))
    ann.write_text(json.dumps(annotation([(3, 1, 10, 10, 20, 20)])))
    rows = [
        dict(image_id=3, category_id=4, bbox=[60, 10, 20, 20], score=0.9),
        dict(image_id=3, category_id=1, bbox=[11, 10, 20, 20], score=0.8),
        dict(image_id=5, category_id=1, bbox=[0, 0, 9, 9], score=0.2),
    ]
    results.write_text(json.dumps(rows))
    arguments = [str(ann), str(results), '--out', str(out)]
    tool = load_tool('mine_hard_negatives')
    assert tool.main(arguments) == 0
    assert '1 hard negatives on 1 of 3 images' in capsys.readouterr().out
    mined = read_hard_negatives(out)
    assert {image: boxes.tolist() for image, boxes in mined.items()} == {
        3: [[60, 10, 80, 30]]
    }
    for image, left in ((3, [[40, 20, 80, 60]]), (5, [])):
        sample = dict(
            img=np.zeros((80, 100, 3), np.uint8),
            img_shape=(80, 100),
            ori_shape=(80, 100),
            img_id=image,
            img_path='',
            gt_bboxes=HorizontalBoxes(np.array([[60, 10, 80, 30]], np.float32)),
            gt_bboxes_labels=np.array([0]),
        )
        move = ProposalBroadcaster(
            [
                dict(type='Resize', scale_factor=2.0),
                dict(type='RandomFlip', prob=1.0),
            ]
        )
        sample = move(LoadHardNegatives(str(out))(sample))
        packed = PackDetInputs()(sample)['data_samples']
        assert packed.proposals.bboxes.tolist() == left
        assert packed.gt_instances.bboxes.tensor.tolist() == [[40, 20, 80, 60]]
        joined = with_mined_boxes(InstanceData(bboxes=torch.zeros(5, 4)), packed)
        assert joined.mined.tolist() == [False] * 5 + [True] * len(left)
        assert joined.bboxes[5:].tolist() == left


def test_the_tool_says_in_one_line_what_is_wrong(tmp_path, capsys):
    tool = load_tool('mine_hard_negatives')
    ann = tmp_path / 'ann.json'
    ann.write_text(json.dumps(annotation([(3, 1, 0, 0, 9, 9)])))
    for arguments, message in (
        ((ann, tmp_path / 'no.json', '--out', tmp_path / 'o.json'), 'not found'),
        ((ann, ann, '--out', tmp_path / 'none' / 'o.json'), 'folder not found'),
        ((ann, ann, '--out', tmp_path / 'o.json'), 'no COCO results file'),
    ):
        assert tool.main([str(a) for a in arguments]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1
