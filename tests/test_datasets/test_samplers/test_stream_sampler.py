"""Laws that every data sampler of the package obeys."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from mmengine.registry import DATA_SAMPLERS, init_default_scope
from torch.utils.data import DataLoader, Subset

from mmdet_imbalance.datasets.samplers import stream_sampler
from tests.helpers.labelled_images import LabelledImages, long_tail

SAMPLERS = {
    'hybrid': dict(type='SoftBalanceSampler', schedule=[(0, 0.0), (1, 0.7)]),
    'ramp': dict(
        type='SoftBalanceSampler', schedule=[(0, 0.0), (3, 1.0)], interpolation='linear'
    ),
    'square root': dict(type='SquareRootSampler'),
    'class-aware': dict(type='UniformClassSampler'),
    'progressive': dict(type='ProgressivelyBalancedSampler', end=4),
    'repeat factors': dict(type='RepeatFactorSampler', oversample_thr=0.4),
}
BY_ITERATION = {
    'hybrid': dict(
        type='SoftBalanceSampler', schedule=[(0, 0.0), (25, 1.0)], by_epoch=False
    ),
    'ramp': dict(
        type='SoftBalanceSampler',
        schedule=[(0, 0.0), (40, 1.0)],
        interpolation='cosine',
        by_epoch=False,
    ),
    'progressive': dict(type='ProgressivelyBalancedSampler', end=30, by_epoch=False),
    'repeat factors': dict(
        type='RepeatFactorSampler', oversample_thr=0.4, infinite=True
    ),
    'class-aware': dict(type='UniformClassSampler', infinite=True),
}


def build(config, dataset, rank=0, world_size=1, monkeypatch=None, **more):
    if monkeypatch is not None:
        monkeypatch.setattr(stream_sampler, 'get_dist_info', lambda: (rank, world_size))
    config = dict(config, type='mmdet_imbalance.' + config['type'], **more)
    config.setdefault('seed', 7)
    # As the host's runner does.
    return DATA_SAMPLERS.build(config, default_args=dict(dataset=dataset))


@pytest.fixture(params=SAMPLERS.values(), ids=SAMPLERS)
def config(request):
    return request.param


@pytest.fixture(params=BY_ITERATION.values(), ids=BY_ITERATION)
def endless_config(request):
    return request.param


def one_stream_of_ranks(parts):
    """Interleave: rank 0's first, rank 1's first, ..., rank 0's second, ..."""
    return [index for turn in zip(*parts, strict=True) for index in turn]


@pytest.mark.parametrize('world_size', [1, 2, 3, 8])
def test_ranks_together_give_one_stream(config, world_size, monkeypatch):
    dataset = long_tail(61)
    whole = build(config, dataset)
    for epoch in (0, 1, 2):
        whole.set_epoch(epoch)
        parts = []
        for rank in range(world_size):
            sampler = build(config, dataset, rank, world_size, monkeypatch)
            sampler.set_epoch(epoch)
            parts.append(list(sampler))
            assert len(parts[-1]) == len(sampler)
        together = one_stream_of_ranks(parts)
        stream = list(whole)
        assert together[: len(stream)] == stream
        # The missing ones come from the beginning, at most one for each rank.
        missing = len(together) - len(stream)
        assert together[len(stream) :] == stream[:missing]
        assert missing < world_size


@pytest.mark.parametrize('world_size', [1, 2, 3, 8])
def test_ranks_together_give_one_endless_stream(
    endless_config, world_size, monkeypatch
):
    dataset = long_tail(61)
    # Iterations hold more images the more ranks there are: the same images an
    # iteration keep the schedules of 1 and of many ranks alike.
    whole = (
        build(endless_config, dataset, batch_size=world_size)
        if ('by_epoch' in endless_config)
        else build(endless_config, dataset)
    )
    more = {'batch_size': 1} if 'by_epoch' in endless_config else {}
    parts = [
        list(
            islice(
                build(endless_config, dataset, rank, world_size, monkeypatch, **more),
                200 // world_size,
            )
        )
        for rank in range(world_size)
    ]
    together = one_stream_of_ranks(parts)
    assert together == list(islice(whole, len(together)))


def test_more_ranks_than_images(config, monkeypatch):
    dataset = LabelledImages([[0], [1], [0, 1]], 2)
    for rank in range(8):
        sampler = build(config, dataset, rank, 8, monkeypatch)
        assert len(list(sampler)) == len(sampler) == 1


def test_length_is_constant_over_epochs(config):
    sampler = build(config, long_tail())
    for epoch in range(6):
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)


def test_the_stream_depends_on_seed_and_epoch_only(config):
    dataset = long_tail()
    sampler = build(config, dataset)
    epochs = []
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert list(sampler) == epochs[-1]
    assert epochs[1] != epochs[2] != epochs[0] != epochs[1]
    np.random.seed(1)
    other = build(config, dataset)
    other.set_epoch(2)
    assert list(other) == epochs[2]
    other = build(config, dataset, seed=8)
    other.set_epoch(2)
    assert list(other) != epochs[2]


@pytest.mark.parametrize('num', [0, 1, 17, 60, 61, 150])
def test_skipping_continues_the_endless_stream(endless_config, num):
    sampler = build(endless_config, long_tail())
    expected = list(islice(sampler, num, num + 90))
    other = build(endless_config, long_tail())
    other.skip(num)
    assert list(islice(other, 90)) == expected


@pytest.mark.parametrize('num', [0, 1, 17, 60])
def test_skipping_continues_the_epoch_and_ends_with_it(config, num):
    sampler = build(config, long_tail())
    sampler.set_epoch(1)
    whole = list(sampler)
    sampler.skip(num)
    assert list(sampler) == whole[num:]
    sampler.set_epoch(2)
    assert len(list(sampler)) == len(sampler)


def test_skipping_beyond_a_finite_epoch_is_refused(config):
    sampler = build(config, long_tail())
    with pytest.raises(ValueError, match='infinite=True'):
        sampler.skip(len(sampler) + 1)
    with pytest.raises(ValueError, match='`num_samples`'):
        sampler.skip(-1)


def test_an_endless_stream_needs_no_set_epoch(endless_config):
    sampler = build(endless_config, long_tail())
    first = list(islice(sampler, 300))
    # Three rounds and more, not the same round again.
    assert first[:60] != first[60:120]
    assert first == list(islice(build(endless_config, long_tail()), 300))


def test_expected_counts_are_what_the_streams_show_on_average(config):
    sampler = build(config, long_tail(num_images=80))
    for epoch in (0, 2):
        seen = np.zeros(80)
        for seed in range(400):
            sampler.seed = seed
            seen += np.bincount(sampler.round_stream(epoch), minlength=80)
        expected = sampler.expected_image_counts(epoch)
        assert expected.sum() == pytest.approx(sampler.round_length)
        spread = np.sqrt(np.maximum(expected, 0.05) / 400)
        # Padding a round of repeat factors may show an image once more: 1 / 80.
        assert (np.abs(seen / 400 - expected) < 4.5 * spread + 0.01).all()


def test_misspelt_keys_raise(config):
    with pytest.raises(TypeError, match='balance_exponnet'):
        build(config, long_tail(), balance_exponnet=1)


def test_seed_none_is_agreed_on_by_the_ranks(config, monkeypatch):
    monkeypatch.setattr(stream_sampler, 'sync_random_seed', lambda: 4711)
    assert build(config, long_tail(), seed=None).seed == 4711


@pytest.mark.parametrize('seed', [-1, 1.5, 'one', True])
def test_bad_seeds_are_refused(config, seed):
    with pytest.raises(ValueError, match='`seed`'):
        build(config, long_tail(), seed=seed)


def test_ignored_boxes_are_presence_only_when_asked(config):
    labels = [[0]] * 10 + [[1]] * 3
    ignored = [[False]] * 12 + [[True]]
    dataset = LabelledImages(labels, 2, ignored)
    assert build(config, dataset).by_class.img_count.tolist() == [10, 2]
    sampler = build(config, dataset, use_ignored=True)
    assert sampler.by_class.img_count.tolist() == [10, 3]


def test_an_empty_dataset_is_refused(config):
    with pytest.raises(ValueError, match='empty'):
        build(config, LabelledImages([], 2))


def test_wrappers_of_datasets_are_followed(config):
    init_default_scope('mmdet')
    inner = long_tail(30)
    subset = Subset(inner, list(range(5, 25)))
    sampler = build(config, subset)
    assert set(sampler) <= set(range(20))
    assert sampler.by_class.num_images == 20
    expected = [set(inner.labels[i]) for i in range(5, 25)]
    for c in range(6):
        part = sampler.by_class.images[slice(*sampler.by_class.class_ptr[c : c + 2])]
        assert part.tolist() == [i for i, one in enumerate(expected) if c in one]


def test_the_summary_is_printed_once_and_on_demand(config, capfd, monkeypatch):
    lines = []
    monkeypatch.setattr(
        stream_sampler, 'print_log', lambda text, **kwargs: lines.append(text)
    )
    build(config, long_tail())
    assert len(lines) == 1
    assert '60 images (' in lines[0]
    assert '5 of 6 classes' in lines[0]
    assert 'head' in lines[0]
    assert 'tail' in lines[0]
    build(config, long_tail(), verbose=False)
    assert len(lines) == 1


def test_the_summary_gives_images_and_boxes_of_each_class(monkeypatch):
    lines = []
    monkeypatch.setattr(
        stream_sampler, 'print_log', lambda text, **kwargs: lines.append(text)
    )
    dataset = LabelledImages([[0, 0, 1], [0], [], [2, 1]], 4)
    config = dict(type='SoftBalanceSampler', schedule=[(0, 0.0), (5, 1.0)])
    build(config, dataset)
    rows = [line.split() for line in lines[0].splitlines()]
    assert ['class', '0', '2', '2.0', '3.0', '2.0', '3.3'] in rows
    # Each of three classes is drawn 4/3 times, evenly from its images: the one image of
    # class 2 comes for it and, every other time, for class 1.
    assert ['class', '2', '1', '1.0', '1.0', '2.0', '2.0'] in rows
    assert ['(1', 'classes', 'without', 'images)'] in rows


def test_a_schedule_by_iteration_is_summed_up_once_the_batch_size_is_known(monkeypatch):
    lines = []
    monkeypatch.setattr(
        stream_sampler, 'print_log', lambda text, **kwargs: lines.append(text)
    )
    config = dict(
        type='SoftBalanceSampler', schedule=[(0, 0.0), (30, 1.0)], by_epoch=False
    )
    sampler = build(config, long_tail())
    assert lines == []
    sampler.set_batch_size(4)
    sampler.set_batch_size(4)
    assert len(lines) == 1
    # 15 iterations show 60 images: the point lies at the beginning of round 2.
    assert [line.split()[0] for line in lines[0].splitlines()[3:5]] == ['0', '2']


PRINT_STREAM = """
from tests.helpers.labelled_images import long_tail
from tests.test_datasets.test_samplers.test_stream_sampler import SAMPLERS, build
for config in SAMPLERS.values():
    sampler = build(config, long_tail())
    sampler.set_epoch(2)
    print(list(sampler))
"""


def test_another_process_draws_the_same_stream(project_root):
    done = subprocess.run(
        [sys.executable, '-c', PRINT_STREAM],
        cwd=project_root,
        capture_output=True,
        text=True,
        check=True,
    )
    here = []
    for config in SAMPLERS.values():
        sampler = build(config, long_tail())
        sampler.set_epoch(2)
        here.append(str(list(sampler)))
    printed = [line for line in done.stdout.splitlines() if line.startswith('[')]
    assert printed == here


@pytest.mark.parametrize('workers', [0, 2])
def test_a_loader_with_persistent_workers_follows_the_epoch(config, workers):
    sampler = build(config, long_tail())
    loader = DataLoader(
        sampler.dataset,
        batch_size=4,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        loaded = [int(i) for batch in loader for i in batch]
        assert loaded == list(sampler)
    # Resumed in the middle of an epoch.
    sampler.skip(12)
    loaded = [int(i) for batch in loader for i in batch]
    assert loaded == sampler.round_stream(1).tolist()[12:]
