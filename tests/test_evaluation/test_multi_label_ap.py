"""Concurrent labels and calibration, against loops and closed forms."""

import numpy as np
import pytest
import torch

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation import MultiLabelDetectionMetric
from mmdet_imbalance.evaluation.multi_label_ap import (
    concurrency_figures,
    concurrent_pairs,
    label_scores,
)
from mmdet_imbalance.evaluation.score_calibration import calibration
from tests.helpers.detection_fixtures import run_metric
from tests.test_evaluation.test_matching import fixture


def iou(a, b):
    """Of two boxes (x, y, w, h), in Python floats."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


def objects_by_loop(gt, detections, iou_thr):
    """{(image, box): {label: score}} by plain loops."""
    objects = {}
    for m in range(len(gt.labels)):
        if gt.is_crowd[m]:
            continue
        best = 0.0
        for d in range(len(detections)):
            at = detections.image_index[d], detections.labels[d]
            near = iou(detections.boxes[d], gt.boxes[m]) >= iou_thr
            if at == (gt.image_index[m], gt.labels[m]) and near:
                best = max(best, detections.scores[d])
        key = (gt.image_index[m], *gt.boxes[m])
        objects.setdefault(key, {})[gt.labels[m]] = best
    return objects


@pytest.mark.parametrize('seed', range(2))
def test_scores_and_figures_are_those_of_loops(seed):
    tree = np.eye(6, dtype=bool)
    tree[1, 0] = tree[2, 0] = tree[3, 2] = tree[3, 0] = True
    _, gt, detections = fixture(seed, num_images=10, num_boxes=50)
    gt = gt.expand(tree)
    got = label_scores(gt, detections)
    expected = objects_by_loop(gt, detections, 0.5)
    assert got.num_objects == len(expected)
    several = [list(v.values()) for v in expected.values() if len(v) > 1]
    single = [next(iter(v.values())) for v in expected.values() if len(v) == 1]
    figures = concurrency_figures(got, score_thr=0.3)
    ordered = [sorted(v, reverse=True) for v in several]
    assert figures['concurrent_objects'] == len(several) > 5
    assert figures['first_score'] == pytest.approx(np.mean([v[0] for v in ordered]))
    assert figures['second_score'] == pytest.approx(np.mean([v[1] for v in ordered]))
    ratios = [v[1] / v[0] for v in ordered if v[0] > 0]
    assert figures['second_given_first'] == pytest.approx(np.mean(ratios))
    assert figures['worst_score'] == pytest.approx(np.mean([v[-1] for v in ordered]))
    recall = np.mean([v[-1] >= 0.3 for v in ordered])
    assert figures['all_labels_recall'] == pytest.approx(recall)
    assert figures['single_score'] == pytest.approx(np.mean(single))
    total, number = np.zeros((6, 6)), np.zeros((6, 6))
    for labels in expected.values():
        for a, score_a in labels.items():
            for b, score_b in labels.items():
                if a != b and max(score_a, score_b) > 0:
                    total[a, b] += score_b / max(score_a, score_b)
                    number[a, b] += 1
    with np.errstate(invalid='ignore'):
        np.testing.assert_allclose(concurrent_pairs(got, 6), total / number)


def test_nothing_at_all():
    _, gt, detections = fixture(0)
    none = gt.select_images(np.zeros(0, dtype=int))
    scores = label_scores(none, detections.take(np.zeros(0, dtype=int)))
    figures = concurrency_figures(scores)
    assert figures.pop('concurrent_objects') == 0
    assert set(figures.values()) == {-1.0}
    assert np.isnan(concurrent_pairs(scores, 3)).all()
    assert calibration(np.zeros(0), np.zeros(0)).expected_error == -1


def test_calibrated_scores_have_no_error_and_a_shift_is_the_error():
    rng = np.random.default_rng(0)
    scores = rng.random(200_000)
    good = calibration(scores, rng.random(len(scores)) < scores)
    assert good.expected_error < 0.01
    assert abs(good.overconfidence) < 0.01
    over = calibration(scores, rng.random(len(scores)) < scores * 0.5)
    assert over.expected_error == pytest.approx(0.25, abs=0.01)
    assert over.overconfidence == pytest.approx(0.25, abs=0.01)


def test_calibration_equals_a_loop_over_bins():
    rng = np.random.default_rng(1)
    scores, true = rng.random(500), rng.random(500) < 0.4
    scores[:3] = [0.0, 1.0, 0.2]
    error = 0.0
    for k in range(5):
        inside = (scores >= k / 5) & ((scores < (k + 1) / 5) | (k == 4))
        error += abs(scores[inside].mean() - true[inside].mean()) * inside.mean()
    assert calibration(scores, true, 5).expected_error == pytest.approx(error)
    with pytest.raises(ValueError, match=r'`scores` must be in \[0, 1\], got 0 .. 3'):
        calibration(np.array([0.0, 3.0]), np.array([True, False]))
    with pytest.raises(ValueError, match='`num_bins`'):
        calibration(scores, true, 0)


BOX = [10.0, 10, 50, 50]


def sample(scores, img_id=0):
    """An object that is an A and an Alpha; scores of the two."""
    return {
        'img_id': img_id,
        'ori_shape': (100, 100),
        'instances': [{'bbox': BOX, 'bbox_label': 2, 'ignore_flag': 0}],
        'pred_instances': {
            'bboxes': torch.tensor([BOX] * len(scores)),
            'scores': torch.tensor(scores),
            'labels': torch.arange(len(scores)),
        },
    }


def figures_of(samples, **kwargs):
    metric = MultiLabelDetectionMetric(**kwargs)
    got = run_metric(metric, samples, ('A', 'Alpha'), label_sets=[[0, 1]])
    return {key.removeprefix('multi_label/'): value for key, value in got.items()}


def test_halved_probabilities_keep_ap_and_lose_the_new_measures():
    shared, full = figures_of([sample([0.5, 0.48])]), figures_of([sample([0.95, 0.9])])
    assert shared['AP'] == full['AP'] == pytest.approx(1)
    assert shared['all_labels_recall'] == 0
    assert full['all_labels_recall'] == 1
    assert shared['worst_score'] == pytest.approx(0.48)
    assert full['second_given_first'] == pytest.approx(0.9 / 0.95)
    # Every detection is right, so what is missing to a score of 1 is the error.
    assert full['calibration_error'] == pytest.approx(1 - 0.925)


def test_ancestors_are_judged_where_the_dataset_has_them():
    one = sample([0.9, 0.4])
    one['instances'][0]['bbox_label'] = 1
    tree = [[True, False], [True, True]]

    def run(**kwargs):
        metric = MultiLabelDetectionMetric(**kwargs)
        return run_metric(metric, [one], ('parent', 'child'), ancestor_matrix=tree)

    assert run()['multi_label/concurrent_objects'] == 1
    assert run(expand_ancestors=False)['multi_label/concurrent_objects'] == 0


def test_calibration_by_group():
    stats = ClassStats(
        class_names=('A', 'Alpha'),
        img_count=np.array([500, 5]),
        instance_count=np.array([500, 5]),
        num_images=500,
    )
    got = figures_of([sample([0.9, 0.3])], class_stats=stats)
    assert got['calibration_error_f'] == pytest.approx(0.1)
    assert got['calibration_error_r'] == pytest.approx(0.7)
    assert got['calibration_error_c'] == got['APc'] == -1
