"""From official files through the dataset and the metric, against the official code."""

import csv
import json

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmdet_imbalance.evaluation import ImbalanceOpenImagesMetric
from tests.helpers.detection_fixtures import run_metric
from tests.helpers.oracles_open_images import official_expansion, official_figures


@pytest.fixture(scope='module')
def files(shared_data):
    folder = shared_data / 'aquarium' / 'open_images'
    return {
        'ann_file': str(folder / 'validation-annotations-bbox.csv'),
        'label_file': str(folder / 'class-descriptions-boxable.csv'),
        'hierarchy_file': str(folder / 'bbox_labels_hierarchy.json'),
        'image_level_ann_file': str(
            folder / 'validation-annotations-human-imagelabels-boxable.csv'
        ),
    }


@pytest.fixture(scope='module')
def dataset(files, shared_data, tmp_path_factory):
    from mmdet_imbalance.datasets.open_images import OpenImagesMultiLabelDataset

    init_default_scope('mmdet')
    keys = ('img_id', 'img_path', 'ori_shape', 'instances', 'verified_pos')
    return OpenImagesMultiLabelDataset(
        **files,
        data_prefix={'img': str(shared_data / 'aquarium' / 'images' / 'validation')},
        cache_dir=tmp_path_factory.mktemp('cache'),
        test_mode=True,
        pipeline=[
            {'type': 'LoadImageFromFile'},
            {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True},
            {'type': 'PackDetInputs', 'meta_keys': (*keys, 'verified_neg')},
        ],
    )


def rows_by_image(path):
    rows = {}
    with open(path, encoding='utf-8') as file:
        for row in csv.DictReader(file):
            rows.setdefault(row['ImageID'], []).append(row)
    return rows


def detections_of(boxes, num_classes, rng):
    """(xyxy, scores, labels): near the boxes, of right and of wrong classes."""
    source = rng.integers(0, len(boxes), 40)
    found = boxes[source, :4] + rng.normal(0, 4, (40, 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])
    labels = np.where(
        rng.random(40) < 0.6,
        boxes[source, 4].astype(int),
        rng.integers(0, num_classes, 40),
    )
    return found.astype(np.float32), rng.random(40).astype(np.float32), labels


@pytest.mark.parametrize('protocol', ['challenge', 'v2'])
@pytest.mark.parametrize('expand_detections', [False, True])
def test_equals_the_official_chain(files, dataset, protocol, expand_detections):
    boxes, facts = (
        rows_by_image(files[key]) for key in ('ann_file', 'image_level_ann_file')
    )
    with open(files['label_file'], encoding='utf-8') as file:
        label_of = {row[0]: k for k, row in enumerate(csv.reader(file))}
    with open(files['hierarchy_file'], encoding='utf-8') as file:
        upwards, downwards = official_expansion(json.load(file))
    names = list(label_of)
    assert len(dataset.metainfo['classes']) == len(names)

    def up(label):
        return [label_of[n] for n in upwards(names[label]) if n in label_of]

    def down(label):
        return [label_of[n] for n in downwards(names[label]) if n in label_of]

    rng = np.random.default_rng(0)
    samples, images = [], []
    for index in range(0, len(dataset), 3):
        sample = dataset[index]['data_samples'].to_dict()
        height, width = sample['ori_shape']
        own = np.array(
            [
                [float(row[k]) for k in ('XMin', 'YMin', 'XMax', 'YMax')]
                + [label_of[row['LabelName']], int(row['IsGroupOf'])]
                for row in boxes.get(sample['img_id'], [])
            ]
        ).reshape(-1, 6)
        own[:, :4] *= [width, height, width, height]
        fallback = np.array([[0, 0, width, height, 0, 0]], dtype=float)
        predicted = detections_of(own if len(own) else fallback, len(names), rng)
        sample['pred_instances'] = {
            key: torch.as_tensor(value)
            for key, value in zip(
                ('bboxes', 'scores', 'labels'), predicted, strict=True
            )
        }
        samples.append(sample)
        gt = [(row, c) for row in own for c in up(int(row[4]))]
        det = [
            (k, c)
            for k, label in enumerate(predicted[2])
            for c in (up(label) if expand_detections else [label])
        ]
        det_row = [k for k, _ in det]
        images.append(
            {
                'gt_box': np.array([row[:4] for row, _ in gt]).reshape(-1, 4),
                'gt_label': np.array([c for _, c in gt], dtype=int),
                'gt_is_group_of': np.array([row[5] for row, _ in gt], dtype=bool),
                'verified': np.array(
                    [
                        c
                        for row in facts.get(sample['img_id'], [])
                        for c in (up if row['Confidence'] == '1' else down)(
                            label_of[row['LabelName']]
                        )
                    ],
                    dtype=int,
                ),
                'det_box': predicted[0][det_row],
                'det_score': predicted[1][det_row],
                'det_label': np.array([c for _, c in det], dtype=int),
            }
        )
    challenge = protocol == 'challenge'
    mean, per_class = official_figures(images, len(names), challenge, float(challenge))
    metric = ImbalanceOpenImagesMetric(
        protocol, expand_detections=expand_detections, classwise=True
    )
    classes = dataset.metainfo['classes']
    got = run_metric(
        metric, samples, classes, ancestor_matrix=dataset.metainfo['ancestor_matrix']
    )
    assert got['openimages/mAP'] == pytest.approx(mean, abs=1e-6)
    ours = [got[f'openimages/AP_{name}'] for name in classes]
    np.testing.assert_allclose(ours, np.nan_to_num(per_class, nan=-1), atol=1e-6)
    assert mean > 0.05
