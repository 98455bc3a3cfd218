"""What a choice is worth on other images: halves, parts and gains."""

import numpy as np
import pytest

from mmdet_imbalance.evaluation import ImbalanceCocoMetric
from mmdet_imbalance.evaluation.held_out import (
    PartsEvaluator,
    held_out_gain,
    random_halves,
)
from tests.helpers.detection_fixtures import (
    class_names,
    random_coco,
    random_predictions,
    run_metric,
    to_samples,
)


def test_halves_are_disjoint_complete_and_reproducible():
    halves = random_halves(11, 3, seed=5)
    assert len(halves) == 6
    for one, other in zip(halves[::2], halves[1::2], strict=True):
        assert sorted([*one, *other]) == list(range(11))
        assert abs(len(one) - len(other)) <= 1
    for one, other in zip(halves, random_halves(11, 3, seed=5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert random_halves(11, 0, 0) == []


@pytest.mark.parametrize('source', ['instances', 'file'])
def test_a_part_is_judged_as_if_it_were_all(tmp_path, source):
    import json

    coco = random_coco(3, num_images=12)
    names = class_names(coco)
    predictions = random_predictions(coco, 4)
    path = None
    if source == 'file':
        path = str(tmp_path / 'ann.json')
        (tmp_path / 'ann.json').write_text(json.dumps(coco))
    samples = to_samples(coco, predictions, None if path else 'instances')
    parts = random_halves(len(samples), 2, seed=0)
    metric = ImbalanceCocoMetric(ann_file=path, classwise=True)
    evaluator = PartsEvaluator([metric], parts)
    evaluator.dataset_meta = {'classes': names}
    for _ in range(2):
        # A second run starts from nothing.
        evaluator.process(samples)
        whole = evaluator.evaluate(len(samples))
        assert len(evaluator.part_figures) == 4
    expected = run_metric(
        ImbalanceCocoMetric(ann_file=path, classwise=True), samples, names
    )
    assert whole == expected
    for part, got in zip(parts, evaluator.part_figures, strict=True):
        alone = ImbalanceCocoMetric(ann_file=path, only_evaluated_images=True)
        assert got == run_metric(alone, [samples[i] for i in part], names)
    assert evaluator.part_figures[0] != evaluator.part_figures[1]


def test_a_metric_that_judges_all_images_is_refused():
    class OfAFile:
        ann_file = 'val.json'

    with pytest.raises(ValueError, match='OfAFile judges all images'):
        PartsEvaluator([OfAFile()], [])


def test_gains_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    figures = {name: rng.random((4, 6)) for name in ('AP', 'APr')}
    figures['APr'][:, 3] = -1
    got = held_out_gain(figures, 'AP', [2, 3])
    gains = {'AP': [], 'APr': []}
    on_chosen = []
    for half in range(6):
        own = [figures['AP'][t, half] for t in (0, 2, 3)]
        trial = (0, 2, 3)[own.index(max(own))]
        assert got.chosen[half] == trial
        on_chosen.append(max(own) - own[0])
        other = half + 1 if half % 2 == 0 else half - 1
        for name, values in figures.items():
            gains[name].append(values[trial, other] - values[0, other])
    assert got.on_chosen == pytest.approx(np.mean(on_chosen))
    pairs = np.reshape(gains['AP'], (3, 2)).mean(axis=1)
    assert got.gain['AP'] == pytest.approx(pairs.mean())
    assert got.spread['AP'] == pytest.approx(np.std(pairs, ddof=1))
    # Half 3 has no rare class: half 2 chose for it and is not counted.
    pairs = [np.mean(gains['APr'][:2]), gains['APr'][3], np.mean(gains['APr'][4:])]
    assert got.gain['APr'] == pytest.approx(np.mean(pairs))


def test_choosing_among_noise_gains_nothing_elsewhere():
    rng = np.random.default_rng(1)
    figures = {'AP': rng.normal(0.3, 0.02, (20, 2000))}
    got = held_out_gain(figures, 'AP', range(20))
    assert got.on_chosen > 0.03
    assert abs(got.gain['AP']) < 0.003


def test_doing_nothing_wins_a_draw():
    got = held_out_gain({'AP': np.full((3, 2), 0.5)}, 'AP', [1, 2])
    assert got.chosen.tolist() == [0, 0]
    assert got.gain == {'AP': 0.0}
    assert np.isnan(got.spread['AP'])
