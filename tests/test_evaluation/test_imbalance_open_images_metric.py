"""ImbalanceOpenImagesMetric, the shell round the evaluator, against the official."""

import json

import numpy as np
import pytest
import torch

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation import ImbalanceOpenImagesMetric
from mmdet_imbalance.evaluation.metrics import imbalance_open_images_metric as module
from tests.helpers.detection_fixtures import run_metric
from tests.helpers.open_images_fixtures import (
    ancestors_by_search,
    expand_images,
    random_hierarchy,
    random_images,
)
from tests.helpers.oracles_open_images import official_figures

NUM_CLASSES = 7
NAMES = tuple(f'c{c}' for c in range(NUM_CLASSES))


def to_sample(index, image, style='ours'):
    """A data sample as the host hands it over; `style` is whose dataset wrote it."""
    group = 'is_group_ofs' if style == 'host challenge' else 'is_group_of'
    rows = zip(image['gt_box'], image['gt_label'], image['gt_is_group_of'], strict=True)
    sample = {
        'img_id': f'{index:08x}',
        'img_path': f'{index:08x}.jpg',
        'ori_shape': (120, 120),
        'instances': [
            {'bbox': b.tolist(), 'bbox_label': int(c), 'ignore_flag': 0, group: bool(g)}
            for b, c, g in rows
        ],
        'pred_instances': {
            'bboxes': torch.as_tensor(image['det_box'].astype(np.float32)),
            'scores': torch.as_tensor(image['det_score'].astype(np.float32)),
            'labels': torch.as_tensor(image['det_label']),
        },
    }
    labels, present = image['verified_label'], image['verified_present']
    if style == 'ours':
        sample['verified_pos'] = labels[present].tolist()
        sample['verified_neg'] = labels[~present]
    else:
        sample['image_level_labels'] = np.append(labels, 0)
        # The last one is a machine's word: it verifies nothing.
        sample['confidences'] = np.append(present, 0.7).astype(np.float32)
    return sample


def fixture(seed, num_images=25):
    rng = np.random.default_rng(seed)
    parents, _ = random_hierarchy(rng, NUM_CLASSES)
    matrix = ancestors_by_search(parents)
    return matrix, random_images(rng, num_images, NUM_CLASSES, tie_steps=8)


def oracle(matrix, images, challenge, weight, expand_detections=False):
    others = matrix & ~np.eye(NUM_CLASSES, dtype=bool)
    expanded = expand_images(
        images,
        lambda c: [c, *np.flatnonzero(others[c])],
        lambda c: [c, *np.flatnonzero(others[:, c])],
        expand_detections,
    )
    return official_figures(expanded, NUM_CLASSES, challenge, weight)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('style', ['ours', 'host', 'host challenge'])
@pytest.mark.parametrize(
    ('kwargs', 'challenge', 'weight'),
    [
        ({}, True, 1.0),
        ({'protocol': 'v2'}, False, 0.0),
        ({'group_of_weight': 0.0, 'expand_detections': True}, True, 0.0),
    ],
)
def test_equals_the_official_evaluator(
    monkeypatch, seed, style, kwargs, challenge, weight
):
    monkeypatch.setattr(module, 'ROWS_A_BATCH', 40)
    matrix, images = fixture(seed)
    samples = [to_sample(i, image, style) for i, image in enumerate(images)]
    key = 'ancestor_matrix' if style == 'ours' else 'RELATION_MATRIX'
    metric = ImbalanceOpenImagesMetric(classwise=True, **kwargs)
    order = np.random.default_rng(0).permutation(len(samples))
    got = run_metric(metric, [samples[i] for i in order], NAMES, **{key: matrix})
    mean, per_class = oracle(
        matrix, images, challenge, weight, kwargs.get('expand_detections', False)
    )
    assert got['openimages/mAP'] == pytest.approx(mean, abs=1e-9)
    ours = np.array([got[f'openimages/AP_{name}'] for name in NAMES])
    np.testing.assert_allclose(ours, np.nan_to_num(per_class, nan=-1), atol=1e-9)
    assert mean > 0.02


def test_groups_come_from_the_training_statistics():
    matrix, images = fixture(5)
    samples = [to_sample(i, image) for i, image in enumerate(images)]
    count = np.array([3, 50, 500, 8, 0, 400, 12])
    stats = ClassStats(
        class_names=NAMES, img_count=count, instance_count=count, num_images=500
    )
    metric = ImbalanceOpenImagesMetric(class_stats=stats, classwise=True)
    got = run_metric(metric, samples, NAMES, ancestor_matrix=matrix)
    by_class = np.array([got[f'openimages/AP_{name}'] for name in NAMES])
    for group in 'rcf':
        values = by_class[stats.freq_group == group]
        expected = values[values >= 0].mean()
        assert got[f'openimages/AP{group}'] == pytest.approx(expected)


def test_results_on_disk_keep_groups_and_verified_labels(tmp_path):
    matrix, images = fixture(6, num_images=8)
    samples = [to_sample(i, image) for i, image in enumerate(images)]
    metric = ImbalanceOpenImagesMetric(outfile_prefix=str(tmp_path / 'out'))
    run_metric(metric, samples, NAMES, ancestor_matrix=matrix)
    annotation = json.loads((tmp_path / 'out.gt.json').read_text())
    groups = sum(row['is_group_of'] for row in annotation['annotations'])
    assert groups == sum(image['gt_is_group_of'].sum() for image in images)
    assert [entry['verified_neg'] for entry in annotation['images']] == [
        image['verified_label'][~image['verified_present']].tolist() for image in images
    ]
    results = json.loads((tmp_path / 'out.bbox.json').read_text())
    assert len(results) == sum(len(image['det_label']) for image in images)


@pytest.mark.parametrize('protocol', ['challenge', 'v2'])
def test_ground_truth_from_a_file_equals_that_of_the_samples(
    monkeypatch, tmp_path, protocol
):
    monkeypatch.setattr(module, 'ROWS_A_BATCH', 40)
    matrix, images = fixture(7)
    samples = [to_sample(i, image) for i, image in enumerate(images)]
    settings = dict(protocol=protocol, classwise=True, expand_detections=True)
    metric = ImbalanceOpenImagesMetric(outfile_prefix=str(tmp_path / 'a'), **settings)
    expected = run_metric(metric, samples, NAMES, ancestor_matrix=matrix)
    path = tmp_path / 'a.gt.json'
    # The file numbers the images and may list classes and boxes in another order.
    content = json.loads(path.read_text())
    content['categories'].reverse()
    content['annotations'].reverse()
    for category, new in zip(
        content['categories'], (5, 9, 2, 40, 3, 8, 1), strict=True
    ):
        category['new'] = new
    new_id = {c['id']: c.pop('new') for c in content['categories']}
    for rows, key in (
        (content['categories'], 'id'),
        (content['annotations'], 'category_id'),
    ):
        for row in rows:
            row[key] = new_id[row[key]]
    for image in content['images']:
        for key in ('pos_category_ids', 'neg_category_ids'):
            image[key] = [new_id[i] for i in image[key]] + [999]
        del image['verified_pos'], image['verified_neg']
    path.write_text(json.dumps(content))
    for sample in samples:
        del sample['instances'], sample['verified_pos'], sample['verified_neg']
    order = np.random.default_rng(0).permutation(len(samples))
    metric = ImbalanceOpenImagesMetric(ann_file=str(path), **settings)
    got = run_metric(metric, [samples[i] for i in order], NAMES, ancestor_matrix=matrix)
    assert got == pytest.approx(expected, abs=1e-12)
    part = ImbalanceOpenImagesMetric(ann_file=str(path), **settings)
    missed = run_metric(part, samples[:5], NAMES, ancestor_matrix=matrix)
    part = ImbalanceOpenImagesMetric(
        ann_file=str(path), only_evaluated_images=True, **settings
    )
    alone = run_metric(part, samples[:5], NAMES, ancestor_matrix=matrix)
    assert missed['openimages/mAP'] < alone['openimages/mAP']


def test_built_by_the_host_with_the_hosts_own_fields():
    from mmengine.evaluator import Evaluator

    evaluator = Evaluator(dict(type='mmdet_imbalance.ImbalanceOpenImagesMetric'))
    evaluator.dataset_meta = {'classes': NAMES}
    _, images = fixture(1, num_images=3)
    for i, image in enumerate(images):
        evaluator.process([to_sample(i, image)], {})
    assert 0 <= evaluator.evaluate(3)['openimages/mAP'] <= 1


def test_bad_input_is_named():
    matrix, images = fixture(2, num_images=2)
    samples = [to_sample(i, image) for i, image in enumerate(images)]
    with pytest.raises(ValueError, match=r"`protocol` must be one of .* got 'v7'"):
        ImbalanceOpenImagesMetric(protocol='v7')
    with pytest.raises(ValueError, match='`iou_thr`'):
        ImbalanceOpenImagesMetric(iou_thr=50)
    with pytest.raises(ValueError, match='have no hierarchy'):
        run_metric(ImbalanceOpenImagesMetric(expand_detections=True), samples, NAMES)
    samples[0]['verified_neg'] = [NUM_CLASSES]
    with pytest.raises(ValueError, match=r'image .00000000.: `verified_neg`.*got 7'):
        run_metric(ImbalanceOpenImagesMetric(), samples, NAMES)
    del samples[1]['instances']
    with pytest.raises(KeyError, match='meta_keys'):
        run_metric(ImbalanceOpenImagesMetric(), samples[1:], NAMES)
    with pytest.raises(ValueError, match=r'must have shape \(7, 7\)'):
        run_metric(ImbalanceOpenImagesMetric(), [], NAMES, ancestor_matrix=np.eye(3))
    empty = run_metric(ImbalanceOpenImagesMetric(), [], NAMES, ancestor_matrix=matrix)
    assert empty == {'openimages/mAP': -1.0}
