"""Error types against hotcoco's TIDE and against cases drawn by hand."""

from dataclasses import replace

import hotcoco
import numpy as np
import pytest

from mmdet_imbalance.evaluation.boxes import Detections
from mmdet_imbalance.evaluation.coco_ap import (
    coco_average_precision,
    to_hotcoco,
    to_hotcoco_rows,
)
from mmdet_imbalance.evaluation.error_types import ERROR_TYPES, find_errors
from tests.test_evaluation.test_matching import fixture


@pytest.mark.parametrize('seed', range(4))
def test_counts_and_costs_are_those_of_tide(seed):
    _, gt, detections = fixture(seed, crowd=0)
    rng = np.random.default_rng(seed)
    detections = replace(detections, scores=rng.permutation(len(detections)) / 1e4)
    # More of every kind: nowhere, badly placed, and objects without detections.
    detections.boxes[::9, :2] += 300
    detections.boxes[4::9, :2] += 0.4 * detections.boxes[4::9, 2:]
    detections = detections.take(rng.random(len(detections)) < 0.5)
    coco_gt = to_hotcoco(gt)
    coco_dt = coco_gt.load_res(to_hotcoco_rows(gt, detections))
    evaluator = hotcoco.COCOeval(coco_gt, coco_dt, 'bbox')
    evaluator.evaluate()
    expected = evaluator.tide_errors()
    got = find_errors(gt, detections)
    counts = dict(zip(ERROR_TYPES, got.count.sum(axis=1).tolist(), strict=True))
    assert counts == expected['counts']
    assert min(counts.values()) > 0
    assert np.nanmean(got.ap) == pytest.approx(expected['ap_base'], abs=1e-9)
    gains = {name: expected['delta_ap'][name] for name in ERROR_TYPES}
    assert got.gain() == pytest.approx(gains, abs=1e-9)


def test_base_is_ap50():
    _, gt, detections = fixture(5)
    expected = coco_average_precision(gt, detections).per_class(0.5)
    got = find_errors(gt, detections)
    np.testing.assert_allclose(got.ap, expected, atol=1e-12)


def _scene(boxes, labels, found):
    """One image of 2 classes; found: (x, y, w, h, score, label)."""
    _, gt, _ = fixture(0)
    gt = gt.select_images(np.array([0]))
    boxes = np.array(boxes, dtype=float).reshape(-1, 4)
    none = np.zeros(len(boxes), dtype=bool)
    gt = replace(
        gt,
        class_names=('a', 'b'),
        category_ids=np.array([1, 2]),
        freq_group=None,
        image_index=np.zeros(len(boxes), dtype=int),
        labels=np.array(labels, dtype=int),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        is_crowd=none,
        is_group_of=none,
    )
    found = np.array(found, dtype=float).reshape(-1, 6)
    return gt, Detections(
        np.zeros(len(found), dtype=int),
        found[:, 5].astype(int),
        found[:, :4],
        found[:, 4],
    )


BOX, FAR = (10, 10, 50, 50), (200, 200, 50, 50)


@pytest.mark.parametrize(
    ('found', 'kinds'),
    [
        ([(*BOX, 0.9, 0)], [None]),
        ([(*BOX, 0.9, 1)], ['Cls']),
        ([(10, 35, 50, 50, 0.9, 0)], ['Loc']),
        ([(10, 35, 50, 50, 0.9, 1)], ['Both']),
        ([(*FAR, 0.9, 0)], ['Bkg']),
        ([(*BOX, 0.9, 0), (*BOX, 0.8, 0)], [None, 'Dupe']),
    ],
)
def test_cases_drawn_by_hand(found, kinds):
    got = find_errors(*_scene([BOX], [0], found))
    names = [None if k < 0 else ERROR_TYPES[k] for k in got.kind]
    assert names == kinds
    assert got.missed[0] == (kinds[0] in ('Both', 'Bkg'))


def test_repairing_what_is_wrong_gives_all():
    gt, detections = _scene([BOX, FAR], [0, 1], [(*BOX, 0.9, 1), (*FAR, 0.8, 1)])
    got = find_errors(gt, detections)
    assert got.ap.tolist() == pytest.approx([0, 0.5])
    assert got.ap_gain[ERROR_TYPES.index('Cls')].tolist() == pytest.approx([1, 0.5])
    assert got.gain(np.array([True, False]))['Cls'] == pytest.approx(1)
    assert np.isnan(got.gain(np.array([False, False]))['Cls'])


def test_nothing_at_all():
    got = find_errors(*_scene([], [], []))
    assert np.isnan(got.ap).all()
    assert got.count.sum() == 0
    got = find_errors(*_scene([BOX], [0], []))
    assert got.count[ERROR_TYPES.index('Miss'), 0] == 1
