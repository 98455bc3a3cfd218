"""Resuming an iteration loop of mmengine 0.10.7, which a stand-in is on later hosts."""

import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader, Dataset

from mmdet_imbalance.datasets.samplers import SoftBalanceSampler
from mmdet_imbalance.engine.advanced_batches import AdvancedBatches, advance_batches
from tests.helpers.labelled_images import LabelledImages, long_tail


class Batches:
    """As `_InfiniteDataloaderIterator` of 0.10.7: asks the loader when it is made."""

    def __init__(self, loader):
        self.iterator = iter(loader)

    def __next__(self):
        return next(self.iterator)


class Loop(IterBasedTrainLoop):
    def __init__(self, loader):
        self.dataloader = loader
        self.dataloader_iterator = Batches(loader)

    def resume(self, num_shown, num_more):
        """What the loop of 0.10.7 does, and what it then trains on."""
        for _ in range(num_shown):
            next(self.dataloader_iterator)
        return [next(self.dataloader_iterator).tolist() for _ in range(num_more)]


class Counted(Dataset):
    """Images that know which of them were loaded."""

    def __init__(self, dataset):
        self.dataset, self.loaded = dataset, []

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        self.loaded.append(index)
        return index


def soft_balance(seed):
    dataset = LabelledImages(long_tail(40).labels, 6)
    schedule = [(0, 0.0), (5, 0.7)]
    sampler = SoftBalanceSampler(
        dataset, schedule, by_epoch=False, batch_size=3, seed=seed, verbose=False
    )
    return Counted(dataset), sampler


def loop_of(data, sampler, workers=0):
    return Loop(DataLoader(data, batch_size=3, sampler=sampler, num_workers=workers))


@pytest.mark.parametrize('workers', [0, 2])
def test_the_stream_goes_on_and_nothing_is_loaded_for_what_was_shown(workers):
    whole = loop_of(*soft_balance(4)).resume(0, 20)
    data, sampler = soft_balance(9)
    loop = loop_of(data, sampler, workers)
    # The seed of the checkpoint is known only after the loop has made its iterator.
    sampler.seed = 4
    advance_batches(loop, 12)
    assert loop.resume(12, 8) == whole[12:]
    if workers == 0:
        assert data.loaded == [k for batch in whole[12:] for k in batch]


def test_a_sampler_that_cannot_skip_is_replayed():
    data = soft_balance(0)[0]
    whole = loop_of(data, InfiniteSampler(data, seed=3)).resume(0, 9)

    class NoSkip(torch.utils.data.Sampler):
        def __iter__(self):
            return iter(InfiniteSampler(data, seed=3))

    loop, ends = loop_of(data, NoSkip()), []
    advance_batches(loop, 5, lambda: ends.append(len(data.loaded)))
    before = len(data.loaded)
    assert loop.resume(5, 4) == whole[5:]
    # Once, when the five have been loaded and nothing else.
    assert ends == [before + 15]


def test_it_is_done_once_and_only_where_it_must_be():
    loop = loop_of(*soft_balance(4))
    kept = loop.dataloader_iterator
    advance_batches(loop, 0)
    assert loop.dataloader_iterator is kept
    kept.skip_iter = lambda num: None
    advance_batches(loop, 3)
    assert loop.dataloader_iterator is kept
    del kept.skip_iter
    advance_batches(loop, 3)
    advanced = loop.dataloader_iterator
    assert isinstance(advanced, AdvancedBatches)
    advance_batches(loop, 3)
    assert loop.dataloader_iterator is advanced
