"""What is said about the epochs before they are drawn."""

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler

from mmdet_imbalance.core.resampling import class_thirds
from mmdet_imbalance.datasets.samplers import SoftBalanceSampler
from mmdet_imbalance.datasets.samplers.expectation import epoch_table
from tests.helpers.labelled_images import LabelledImages, long_tail


def test_a_plain_shuffle_shows_what_is_there():
    dataset = LabelledImages([[0, 0, 1], [0], [], [2, 1]], 4)
    for sampler in (
        SoftBalanceSampler(dataset, [(0, 0.0)], seed=0, verbose=False),
        DefaultSampler(dataset, seed=0),
    ):
        table = epoch_table(sampler, dataset, [0, 3])
        assert table.images.tolist() == [[2, 2, 1, 0]] * 2
        assert table.boxes.tolist() == [[3, 2, 1, 0]] * 2
        assert table.entries.tolist() == [4, 4]
    assert table.is_counted


def test_the_expectation_is_the_mean_of_what_is_drawn():
    dataset = long_tail(80)
    sampler = SoftBalanceSampler(dataset, [(0, 0.0), (2, 0.8)], seed=0, verbose=False)
    table = epoch_table(sampler, dataset, [2])
    seen = np.zeros(6)
    for seed in range(300):
        sampler.seed = seed
        for image in sampler.round_stream(2):
            for label in set(dataset.labels[image]):
                seen[label] += 1
    assert seen / 300 == pytest.approx(table.images[0], abs=1.0)


def test_thirds_leave_classes_without_images_out():
    thirds = class_thirds(np.array([5, 0, 9, 1, 7, 0, 3]))
    assert {name: part.tolist() for name, part in thirds.items()} == {
        'head': [2, 4],
        'middle': [0, 6],
        'tail': [3],
    }
