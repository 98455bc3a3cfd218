"""Batches of an iteration loop of mmengine 0.10.7 that resumes.

That loop makes its iterator before the checkpoint is read, and on resuming asks it for
every batch that was trained on already: the images are loaded for nothing, which draws
random numbers, and workers that have begun with another seed show other images.  Later
releases advance the data sampler instead; here is the same for 0.10.7.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import BatchSampler


class AdvancedBatches:
    """Iterator whose first batches are those that were shown.

    Args:
        batches: what follows them or, unless they are skipped, begins with them.
        num_shown: how many batches were shown.
        is_skipped: nothing is loaded for them, they are None.
        at_end: called when they are over.
    """

    def __init__(
        self,
        batches: Iterator,
        num_shown: int,
        is_skipped: bool,
        at_end: Callable[[], None],
    ) -> None:
        self._batches, self._num_shown = batches, num_shown
        self._is_skipped, self._at_end = is_skipped, at_end

    def __iter__(self) -> 'AdvancedBatches':
        return self

    def __next__(self) -> Any:
        if self._num_shown == 0:
            return next(self._batches)
        batch = None if self._is_skipped else next(self._batches)
        self._num_shown -= 1
        if self._num_shown == 0:
            self._at_end()
        return batch


def advance_batches(
    loop, num_shown: int, at_end: Callable[[], None] = lambda: None
) -> None:
    """Let an iteration loop resume without loading what it has shown, once.

    Data samplers without `skip` leave no choice: their batches are loaded.

    Args:
        loop: training loop of the host, before its first iteration.
        num_shown: number of iterations that were trained.
        at_end: called before the first batch that was not shown is loaded.
    """
    if not isinstance(loop, IterBasedTrainLoop) or num_shown == 0:
        return
    batches, loader = loop.dataloader_iterator, loop.dataloader
    # Later releases than 0.10.7 do it themselves; or another hook has done it.
    if hasattr(batches, 'skip_iter') or isinstance(batches, AdvancedBatches):
        return
    # Other batch samplers draw an unknown number of images for a batch.
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    can_skip = type(loader.batch_sampler) is BatchSampler and hasattr(sampler, 'skip')
    if can_skip:
        sampler.skip(num_shown * loader.batch_sampler.batch_size)
        batches = type(batches)(loader)
    loop.dataloader_iterator = AdvancedBatches(batches, num_shown, can_skip, at_end)
