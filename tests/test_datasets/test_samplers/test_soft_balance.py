"""Soft balance and its schedule; laws that all samplers share are in their own file."""

import json
from itertools import islice

import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope
from torch.utils.data import Subset

from mmdet_imbalance.datasets.samplers import (
    ProgressivelyBalancedSampler,
    RepeatFactorSampler,
    SoftBalanceSampler,
    SquareRootSampler,
    UniformClassSampler,
)
from tests.helpers import oracles_resampling as oracle
from tests.helpers.labelled_images import LabelledImages, long_tail
from tests.helpers.tiny_run import CLASSES, write_data

TWO_CLASSES = LabelledImages([[0]] * 90 + [[1]] * 10, 2)


def drawn_in_rounds(sampler, rounds, num_images):
    streams = [sampler.round_stream(number) for number in rounds]
    return np.bincount(np.concatenate(streams), minlength=num_images)


def test_the_default_is_hybrid_training_as_documented():
    sampler = SoftBalanceSampler(long_tail(), seed=0)
    assert sampler.schedule.points == ((0, 0.0), (8, 0.7))
    sampler.set_epoch(7)
    assert sorted(sampler) == list(range(60))
    sampler.set_epoch(8)
    assert sorted(sampler) != list(range(60))


@pytest.mark.parametrize('exponent', [0.3, 0.7, 1.0])
def test_draws_follow_the_closed_form(exponent):
    dataset = long_tail(num_images=200)
    sampler = SoftBalanceSampler(dataset, [(0, exponent)], seed=11)
    seen = drawn_in_rounds(sampler, range(100), 200)
    probs = np.array(oracle.image_probs(dataset.labels, 6, exponent))
    statistic, degrees = oracle.chi_square(seen, 100 * 200 * probs)
    assert statistic < oracle.chi_square_limit(degrees)


def test_relatives_are_points_of_soft_balance():
    dataset = long_tail()
    for relative, exponent in ((SquareRootSampler, 0.5), (UniformClassSampler, 1.0)):
        soft = SoftBalanceSampler(dataset, [(0, exponent)], seed=3)
        assert list(relative(dataset, seed=3)) == list(soft)


def test_progressive_balance_mixes_shuffle_and_class_aware():
    sampler = ProgressivelyBalancedSampler(TWO_CLASSES, end=10, seed=0)
    sampler.set_epoch(0)
    assert sorted(sampler) == list(range(100))
    for epoch, rare in ((5, 0.5 * 0.1 + 0.5 * 0.5), (10, 0.5), (17, 0.5)):
        streams = []
        for seed in range(100):
            sampler.seed = seed
            streams.append(sampler.round_stream(epoch))
        share = (np.concatenate(streams) >= 90).mean()
        assert share == pytest.approx(rare, abs=4.5 * np.sqrt(0.25 / 10_000))


@pytest.mark.parametrize('end', [0, -3])
def test_progressive_balance_needs_an_end(end):
    with pytest.raises(ValueError, match='`end`'):
        ProgressivelyBalancedSampler(TWO_CLASSES, end=end)


def test_repeat_factors_come_from_the_dataset():
    sampler = RepeatFactorSampler(TWO_CLASSES, oversample_thr=0.4, seed=0)
    assert sampler.repeat_factors[:90].tolist() == [1.0] * 90
    assert sampler.repeat_factors[90:] == pytest.approx([2.0] * 10)
    assert len(sampler) == 110
    assert np.bincount(list(sampler)).tolist() == [1] * 90 + [2] * 10


def test_an_iteration_schedule_switches_inside_a_round():
    sampler = SoftBalanceSampler(
        TWO_CLASSES, [(0, 0.0), (6, 1.0)], by_epoch=False, batch_size=10, seed=0
    )
    rare_before, rare_after = [], []
    for seed in range(60):
        sampler.seed = seed
        entries = np.array(list(islice(sampler, 160)))
        assert len(set(entries[:60])) == 60
        rare_before.append((entries[:60] >= 90).mean())
        rare_after.append((entries[60:] >= 90).mean())
    assert np.mean(rare_before) == pytest.approx(0.1, abs=0.02)
    assert np.mean(rare_after) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize('infinite', [True, False])
@pytest.mark.parametrize(('rank', 'world_size'), [(0, 1), (1, 3)])
def test_iterations_are_those_of_the_loader(rank, world_size, infinite, monkeypatch):
    monkeypatch.setattr(
        'mmdet_imbalance.datasets.samplers.stream_sampler.get_dist_info',
        lambda: (rank, world_size),
    )
    # At iteration 7 the natural stream turns into one that shows images from 90 on.
    # 102 images: no rank is filled up with entries of the beginning.
    labels = [[]] * 90 + [[0]] * 12
    sampler = SoftBalanceSampler(
        LabelledImages(labels, 1),
        [(0, 0.0), (7, 1.0)],
        by_epoch=False,
        batch_size=4,
        infinite=infinite,
        seed=0,
    )
    entries = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        entries += list(sampler) if not infinite else []
    if infinite:
        entries = list(islice(sampler, 100))
    # A short last batch of an epoch is an iteration too; here 34 = 8 * 4 + 2.
    assert all(index >= 90 for index in entries[28:])
    assert sum(index >= 90 for index in entries[:28]) < 14


def test_without_a_batch_size_an_iteration_is_one_image_of_each_rank():
    sampler = SoftBalanceSampler(
        LabelledImages([[]] * 90 + [[0]] * 10, 1),
        [(0, 0.0), (30, 1.0)],
        by_epoch=False,
        seed=0,
    )
    entries = list(islice(sampler, 100))
    assert all(index >= 90 for index in entries[30:])
    assert any(index < 90 for index in entries[:30])


def test_a_training_by_iterations_without_batch_size_is_refused():
    """The host's hook calls `set_epoch` before the first batch."""
    sampler = SoftBalanceSampler(TWO_CLASSES, [(0, 0.0), (9, 1.0)], by_epoch=False)
    with pytest.raises(ValueError, match='DataSamplerHook'):
        sampler.set_epoch(0)
    sampler.set_batch_size(4)
    sampler.set_epoch(0)
    SoftBalanceSampler(TWO_CLASSES, [(0, 1.0)], by_epoch=False).set_epoch(0)


def test_another_batch_size_than_the_loader_s_is_refused():
    sampler = SoftBalanceSampler(TWO_CLASSES, batch_size=4)
    with pytest.raises(ValueError, match=r'batch_size=4.* 8'):
        sampler.set_batch_size(8)
    with pytest.raises(ValueError, match='`batch_size`'):
        SoftBalanceSampler(TWO_CLASSES, batch_size=0)


@pytest.mark.parametrize(
    'schedule', [[(1, 0.0)], [(0, 0.0), (8, 0.7), (4, 1.0)], [(0, -1.0)], [], [0.7]]
)
def test_bad_schedules_are_refused(schedule):
    with pytest.raises(ValueError, match=r'schedule|exponent'):
        SoftBalanceSampler(TWO_CLASSES, schedule)


def test_balance_without_any_label_is_refused_at_once():
    nothing = LabelledImages([[], []], 2)
    with pytest.raises(ValueError, match='no image'):
        SoftBalanceSampler(nothing)
    natural = SoftBalanceSampler(nothing, [(0, 0.0)], seed=0)
    assert sorted(natural) == [0, 1]


def test_a_dataset_with_only_ignored_boxes_is_refused():
    dataset = LabelledImages([[0], [1]], 2, [[True], [True]])
    with pytest.raises(ValueError, match='no image'):
        SoftBalanceSampler(dataset)


def test_host_datasets_and_their_wrappers_are_sampled(tmp_path):
    """Images 0 to 5 show all classes; filtered, joined, repeated, cut out."""
    folder = write_data(tmp_path / 'data', num_images=6)
    content = json.loads((folder / 'train.json').read_text())
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != 3]
    (folder / 'train.json').write_text(json.dumps(content))
    init_default_scope('mmdet')

    def coco(filter_empty_gt):
        return dict(
            type='CocoDataset',
            ann_file=str(folder / 'train.json'),
            data_prefix=dict(img=str(folder)),
            metainfo=dict(classes=CLASSES),
            filter_cfg=dict(filter_empty_gt=filter_empty_gt),
            pipeline=[],
        )

    filtered = DATASETS.build(coco(True))
    whole = DATASETS.build(coco(False))
    repeated = DATASETS.build(dict(type='RepeatDataset', times=3, dataset=coco(True)))
    joined = DATASETS.build(
        dict(
            type='ConcatDataset',
            datasets=[coco(True), coco(False)],
            ignore_keys=['data_list'],
        )
    )
    cut = Subset(whole, [5, 2, 0])
    for dataset, img_count in (
        (filtered, 5),
        (whole, 5),
        (repeated, 15),
        (joined, 10),
        (cut, 2),
    ):
        sampler = SoftBalanceSampler(dataset, [(0, 0.0), (1, 0.7)], seed=0)
        assert sampler.by_class.img_count.tolist() == [img_count] * 3
        assert sorted(sampler) == list(range(len(dataset)))
        sampler.set_epoch(1)
        for index in sampler:
            if dataset is cut:
                assert index != 1
            else:
                assert dataset.get_data_info(index)['instances']
