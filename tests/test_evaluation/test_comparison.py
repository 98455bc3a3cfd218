"""Comparison of detectors: figures, intervals, verdicts, and the tool."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from mmdet_imbalance.evaluation.coco_ap import coco_average_precision, summarize
from mmdet_imbalance.evaluation.comparison import (
    Comparison,
    check_same_ground_truth,
    welch_interval,
)
from mmdet_imbalance.evaluation.results_file import write_results
from tests.test_evaluation.test_matching import fixture


def degraded(detections, share, seed):
    """Detections of which a share got another class."""
    rng = np.random.default_rng(seed)
    labels = detections.labels.copy()
    wrong = rng.random(len(labels)) < share
    labels[wrong] = (labels[wrong] + 1) % 6
    return replace(detections, labels=labels)


def test_figures_are_those_of_the_metric():
    _, gt, detections = fixture(1)
    runs = {'a': [detections], 'b': [degraded(detections, 0.5, 0)]}
    comparison = Comparison(gt, runs, num_drawings=20, classwise=True)
    rows = {d.figure: d for d in comparison.differences('b')}
    for side, run in (('baseline', runs['a'][0]), ('other', runs['b'][0])):
        result = coco_average_precision(gt, run)
        expected = summarize(result, gt.freq_group)
        for key in ('AP', 'AP50', 'AP75', 'APr', 'APc', 'APf'):
            assert getattr(rows[key], side) == pytest.approx(expected[key], abs=1e-12)
        for name, ap in zip(gt.class_names, result.per_class(), strict=True):
            got = getattr(rows[f'AP {name}'], side)
            assert got == pytest.approx(ap, abs=1e-12, nan_ok=True)


def test_a_large_difference_is_seen_and_none_is_not_invented():
    _, gt, detections = fixture(2, num_images=40, num_boxes=400)
    runs = {
        'base': [detections],
        'same': [detections],
        'bad': [degraded(detections, 0.6, 1)],
    }
    comparison = Comparison(gt, runs, num_drawings=100)
    same = comparison.differences('same')[0]
    assert same.image_interval == (0, 0)
    assert same.verdict == 'within noise'
    bad = comparison.differences('bad')[0]
    assert bad.verdict == 'worse'
    low, high = bad.image_interval
    assert low < bad.difference < high < 0
    swapped = {'bad': runs['bad'], 'base': runs['base']}
    good = Comparison(gt, swapped, num_drawings=100).differences('base')[0]
    assert good.verdict == 'better'
    assert good.image_interval == pytest.approx((-high, -low))


def test_intervals_have_about_the_coverage_they_claim():
    """Of pairs that differ by chance alone, few are called different."""
    _, gt, detections = fixture(3, num_images=40, num_boxes=200)
    called = 0
    for seed in range(12):
        a = degraded(detections, 0.3, 2 * seed)
        b = degraded(detections, 0.3, 2 * seed + 1)
        comparison = Comparison(gt, {'a': [a], 'b': [b]}, num_drawings=40)
        called += comparison.differences('b')[0].verdict != 'within noise'
    assert called <= 3


def test_welch_interval_is_scipys():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(0)
    for num in (2, 3, 7):
        one, other = rng.normal(0.3, 0.01, num), rng.normal(0.32, 0.03, num + 1)
        expected = ttest_ind(other, one, equal_var=False).confidence_interval(0.9)
        got = welch_interval(one, other, 0.9)
        assert got == pytest.approx((expected.low, expected.high))
    assert welch_interval(np.array([0.3]), np.array([0.2, 0.3])) is None
    equal = welch_interval(np.array([0.25, 0.25]), np.array([0.5, 0.5]))
    assert equal == (0.25, 0.25)


def test_seeds_that_disagree_are_noise():
    _, gt, detections = fixture(4, num_images=40, num_boxes=400)
    bad = degraded(detections, 0.6, 1)
    runs = {'base': [bad, detections], 'other': [detections, bad, detections]}
    row = Comparison(gt, runs, num_drawings=50).differences('other')[0]
    assert row.verdict == 'within noise'
    assert row.seed_interval[0] < row.difference < row.seed_interval[1]


def test_a_group_without_classes_is_undefined():
    _, gt, detections = fixture(5)
    gt = replace(gt, freq_group=np.array(['f'] * 6))
    runs = {'a': [detections], 'b': [detections]}
    rows = {d.figure: d for d in Comparison(gt, runs, 20).differences('b')}
    assert np.isnan(rows['APr'].difference)
    assert rows['APr'].verdict == 'undefined'


def test_other_ground_truth_is_refused():
    _, gt, detections = fixture(6)
    with pytest.raises(ValueError, match=r'other images.*30 and 29 images, 29 shared'):
        check_same_ground_truth(gt, gt.select_images(np.arange(29)), 'x')
    with pytest.raises(ValueError, match='other classes'):
        check_same_ground_truth(gt, replace(gt, class_names=('a',) * 6), 'x')
    with pytest.raises(ValueError, match='other boxes'):
        check_same_ground_truth(gt, replace(gt, boxes=gt.boxes + 1), 'x')
    for flag in ('is_crowd', 'is_group_of'):
        other = getattr(gt, flag).copy()
        other[0] = ~other[0]
        with pytest.raises(ValueError, match='other ones are crowds'):
            check_same_ground_truth(gt, replace(gt, **{flag: other}), 'x')
    with pytest.raises(ValueError, match='at least two'):
        Comparison(gt, {'a': [detections]})


@pytest.fixture(scope='module')
def tool(project_root):
    spec = importlib.util.spec_from_file_location(
        'compare', project_root / 'tools' / 'compare.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp('results')
    _, gt, detections = fixture(7, num_images=40, num_boxes=400)
    for seed in range(2):
        write_results(folder / f'base{seed}', gt, degraded(detections, 0.05, seed))
        write_results(folder / 'bad' / f'{seed}', gt, degraded(detections, 0.7, seed))
    small = gt.select_images(np.arange(10))
    keep = detections.image_index < 10
    write_results(folder / 'part', small, detections.take(keep))
    return folder


@pytest.mark.parametrize('suffix', ['md', 'csv', 'json'])
def test_tool_compares_runs(tool, results, tmp_path, capsys, suffix):
    out = tmp_path / f'out.{suffix}'
    argv = [f'base={results}/base*.bbox.json', str(results / 'bad'), '--out', str(out)]
    assert tool.main([*argv, '--num-drawings', '50', '--classwise']) == 0
    printed = capsys.readouterr().out
    assert 'worse' in printed
    assert "'base': 2" in printed
    assert 'single run' not in printed
    assert 'on these images' not in printed
    text = out.read_text()
    if suffix == 'json':
        row = next(iter(json.loads(text).values()))['AP']
        assert row['verdict'] == 'worse'
        assert row['seed_interval'][1] < 0
    assert 'AP class0' in text


def test_tool_warns_of_single_runs(tool, results, capsys):
    one, two = (str(results / f'base{i}.bbox.json') for i in range(2))
    assert tool.main([one, two, '--num-drawings', '20']) == 0
    printed = capsys.readouterr().out
    assert 'single run' in printed
    assert 'within noise' in printed
    bad = str(results / 'bad' / '0.bbox.json')
    assert tool.main([one, bad, '--num-drawings', '20']) == 0
    assert 'worse on these images' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['base0', 'nothing'], 'no results file at'),
        (['base0'], 'nothing to compare'),
        (['base0', 'part'], 'other images'),
    ],
)
def test_tool_names_bad_input(tool, results, capsys, names, message):
    argv = [str(results / f'{name}.bbox.json') for name in names]
    assert tool.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1
