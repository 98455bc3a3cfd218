"""Matching and the weighted AP made from it, against pycocotools."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet_imbalance.evaluation import matching
from mmdet_imbalance.evaluation.bootstrap import (
    RECALL_THRS,
    WeightedAP,
    draw_images,
    needed_true_positives,
)
from mmdet_imbalance.evaluation.boxes import Detections
from mmdet_imbalance.evaluation.coco_ap import coco_average_precision
from mmdet_imbalance.evaluation.coco_file import read_coco
from mmdet_imbalance.evaluation.matching import match_detections
from mmdet_imbalance.evaluation.results_file import to_coco_results
from tests.helpers.detection_fixtures import (
    class_names,
    random_coco,
    random_predictions,
)


def fixture(seed, **kwargs):
    coco = random_coco(seed, **kwargs)
    gt = read_coco(coco, class_names(coco))
    predictions = random_predictions(coco, seed + 20)
    parts = [predictions[image['id']] for image in gt.images]
    xyxy = np.concatenate([p[0] for p in parts]).astype(float)
    detections = Detections(
        image_index=np.repeat(np.arange(len(parts)), [len(p[1]) for p in parts]),
        labels=np.concatenate([p[2] for p in parts]),
        boxes=np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1),
        scores=np.concatenate([p[1] for p in parts]).astype(float),
    )
    return coco, gt, detections


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('iou_thr', [0.5, 0.75])
@pytest.mark.parametrize('max_dets', [100, 4])
def test_matches_are_those_of_pycocotools(seed, iou_thr, max_dets):
    coco, gt, detections = fixture(seed, crowd=0.2)
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = coco
        api.createIndex()
        evaluation = COCOeval(api, api.loadRes(to_coco_results(gt, detections)), 'bbox')
        evaluation.params.iouThrs = np.array([iou_thr])
        evaluation.params.maxDets = [max_dets]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.evaluate()
    expected_true = np.zeros(len(detections), dtype=bool)
    expected_ignored = np.ones(len(detections), dtype=bool)
    found = {}
    for entry in filter(None, evaluation.evalImgs):
        rows = np.array(entry['dtIds'], dtype=int) - 1
        ignored = entry['dtIgnore'][0].astype(bool)
        expected_ignored[rows] = ignored
        expected_true[rows] = (entry['dtMatches'][0] > 0) & ~ignored
        found |= dict(zip(rows.tolist(), entry['dtMatches'][0].tolist(), strict=True))
    matches = match_detections(gt, detections, iou_thr, max_dets)
    np.testing.assert_array_equal(matches.is_true, expected_true)
    np.testing.assert_array_equal(matches.ignored, expected_ignored)
    for row in np.flatnonzero(expected_true):
        assert coco['annotations'][matches.gt[row]]['id'] == found[row]
    assert 20 < expected_true.sum() < len(detections)


@pytest.mark.parametrize('seed', range(3))
def test_equal_weights_give_coco_ap(seed):
    _, gt, detections = fixture(seed)
    expected = coco_average_precision(gt, detections)
    ap = WeightedAP(gt, detections)(np.ones((2, len(gt.images))))
    np.testing.assert_allclose(
        ap[0].mean(axis=0), expected.per_class(), atol=1e-12, equal_nan=True
    )
    np.testing.assert_array_equal(ap[0], ap[1])


def test_a_weight_is_a_repeated_image():
    _, gt, detections = fixture(5)
    rng = np.random.default_rng(0)
    # Only copies of an image share a score; else the order of ties would be free.
    detections = replace(detections, scores=rng.permutation(len(detections)) / 1e4)
    weights = rng.integers(0, 4, (5, len(gt.images)))
    ap = WeightedAP(gt, detections)(weights)
    for b in range(len(weights)):
        index = np.repeat(np.arange(len(gt.images)), weights[b])
        expected = coco_average_precision(*_repeat(gt, detections, index)).per_class()
        np.testing.assert_allclose(
            ap[b].mean(axis=0), expected, atol=1e-12, equal_nan=True
        )


def _repeat(gt, detections, index):
    """Ground truth and detections of the images `index`, each under a new id."""
    images = [{**gt.images[i], 'id': n + 1} for n, i in enumerate(index)]
    boxes = [np.flatnonzero(gt.image_index == i) for i in index]
    found = [np.flatnonzero(detections.image_index == i) for i in index]
    numbers = np.arange(len(index))
    rows = np.concatenate(boxes)
    new_gt = replace(
        gt,
        images=images,
        image_index=np.repeat(numbers, [len(b) for b in boxes]),
        labels=gt.labels[rows],
        boxes=gt.boxes[rows],
        areas=gt.areas[rows],
        is_crowd=gt.is_crowd[rows],
        is_group_of=gt.is_group_of[rows],
    )
    new = detections.take(np.concatenate(found))
    image_index = np.repeat(numbers, [len(f) for f in found])
    return new_gt, replace(new, image_index=image_index)


def test_recall_levels_are_reached_as_in_coco():
    for num_gt in range(1, 400):
        recall = np.arange(num_gt + 1) / num_gt
        expected = np.searchsorted(recall, RECALL_THRS, side='left')
        np.testing.assert_array_equal(
            needed_true_positives(np.array([num_gt]))[0], expected
        )


def test_drawings_are_reproducible_and_complete():
    one, other = draw_images(30, 50, seed=3), draw_images(30, 50, seed=3)
    np.testing.assert_array_equal(one, other)
    assert (one.sum(axis=1) == 30).all()
    assert one.shape == (50, 30)
    _, gt, detections = fixture(0)
    weighted = WeightedAP(gt, detections)
    with pytest.raises(ValueError, match=r'must have shape \(B, 30\)'):
        weighted(np.ones((2, 29)))


def test_blocks_of_pairs_do_not_matter(monkeypatch):
    _, gt, detections = fixture(5)
    rows = np.arange(len(gt.labels))
    arguments = detections.image_index, detections.boxes, gt.image_index, gt.boxes, rows
    whole = matching.overlapping_pairs(*arguments)
    monkeypatch.setattr(matching, 'PAIRS_AT_ONCE', 7)
    for one, other in zip(matching.overlapping_pairs(*arguments), whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(whole[0]) > 100
    assert (whole[2] > 0).all()
    nobody = (some[:0] for some in arguments)
    assert [len(column) for column in matching.overlapping_pairs(*nobody)] == [0, 0, 0]
