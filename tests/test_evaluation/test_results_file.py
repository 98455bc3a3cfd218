"""Results on disk: the fast reader and the careful one say the same."""

import json

import numpy as np
import pytest

from mmdet_imbalance.evaluation.results_file import read_results, write_results
from tests.test_evaluation.test_matching import fixture


def test_written_results_come_back(tmp_path):
    _, gt, detections = fixture(1, num_images=6, num_boxes=40)
    path, _ = write_results(tmp_path / 'run', gt, detections)
    got = read_results(path, gt)
    for name in ('image_index', 'labels', 'boxes', 'scores'):
        np.testing.assert_array_equal(getattr(got, name), getattr(detections, name))


def test_a_file_that_only_the_careful_reader_takes_gives_the_same(tmp_path):
    """Python writes numbers that are no JSON; other keys hold anything."""
    _, gt, detections = fixture(2, num_images=6, num_boxes=40)
    path, _ = write_results(tmp_path / 'run', gt, detections)
    rows = json.loads(path.read_text())
    plain = read_results(path, gt)
    rows[0]['segmentation'] = {'size': [1, 2], 'counts': 'a'}
    rows[1]['score'] = 1
    rows[2]['bbox'] = [1, 2, 3, 4]
    path.write_text(json.dumps(rows))
    fast = read_results(path, gt)
    rows[3]['note'] = float('nan')
    path.write_text(json.dumps(rows))
    careful = read_results(path, gt)
    assert len(fast) == len(plain)
    for name in ('image_index', 'labels', 'boxes', 'scores'):
        np.testing.assert_array_equal(getattr(fast, name), getattr(careful, name))
    assert not np.array_equal(fast.boxes, plain.boxes)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[', 'no valid JSON'),
        ('{"images": []}', 'expected a list of detections, got a dict'),
        ('[{"image_id": 1}]', 'every detection needs'),
        (
            '[{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]',
            'other than four numbers',
        ),
        (
            '[{"image_id": "a", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
            'every detection needs',
        ),
        (
            '[{"image_id": 5.5, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
            'image_id 5.5 is no integer',
        ),
        (
            '[{"image_id": -9, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
            'another dataset or split',
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, message):
    _, gt, _ = fixture(3, num_images=4, num_boxes=10)
    path = tmp_path / 'results.bbox.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results(path, gt)


def test_a_missing_file_is_named(tmp_path):
    _, gt, _ = fixture(3, num_images=4, num_boxes=10)
    with pytest.raises(FileNotFoundError, match='results file not found'):
        read_results(tmp_path / 'gone.bbox.json', gt)


def test_no_detections_at_all(tmp_path):
    _, gt, _ = fixture(3, num_images=4, num_boxes=10)
    path = tmp_path / 'results.bbox.json'
    path.write_text('[]')
    assert len(read_results(path, gt)) == 0
