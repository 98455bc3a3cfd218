"""A resumed training does what the uninterrupted one would have done.

Weights, optimiser and schedules are in the host's checkpoint.  Two things are not: the
random numbers of augmentation and RoI sampling, and the place within an epoch.

Random numbers: the generators of a process are seeded anew for each iteration, by
`(seed, rank, iteration)`, before the images of the iteration are loaded.  What is drawn
then depends on nothing that came before, a validation included, and nothing has to be
saved.  The host seeds once at the start, so its resumed run draws again what the first
iterations drew, and gives every rank the same numbers.

Place: see `ResumableBatches`.

Not exact: processes that load data (`num_workers` above 0) have generators of their
own, which the host seeds when they start: their random augmentations after a resume are
others, of the same distribution.  The order of images is the same for any number of
workers.  On a GPU, some operations add in an order of their own.
"""

import logging
import random

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop

from mmdet_imbalance.datasets.samplers.resumable_batches import ResumableBatches
from mmdet_imbalance.engine.advanced_batches import advance_batches
from mmdet_imbalance.engine.hooks.data_sampler_hook import stream_sampler_of
from mmdet_imbalance.registry import HOOKS

CHECKPOINT_KEY = 'mmdet_imbalance.exact_resume'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Seed each iteration, and continue an epoch where it was left."""

    # After the hooks that set the epoch and the seed of the data sampler.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._saved: dict[str, int] | None = None

    def before_train(self, runner) -> None:
        """Let the data loader draw from a generator of its own.

        It draws when its iterator is made, which a resumed training does at another
        iteration.
        """
        generator = torch.Generator()
        generator.manual_seed(runner.seed)
        runner.train_dataloader.generator = generator

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep what the place within an epoch depends on."""
        checkpoint[CHECKPOINT_KEY] = epoch_layout(runner)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Remember it; whether the training resumes is only known when it starts."""
        self._saved = checkpoint.get(CHECKPOINT_KEY)

    def before_train_epoch(self, runner) -> None:
        """Seed the first iteration; return to the place within the epoch."""

        def seed() -> None:
            seed_generators(runner.seed, get_rank(), runner.iter)

        seed()
        saved, self._saved = self._saved, None
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            advance_batches(runner.train_loop, runner.iter, seed)
            return
        loader = runner.train_dataloader
        done = runner.iter - runner.epoch * len(loader)
        # Only a resumed training begins an epoch anywhere but at its start.
        if done == 0:
            return
        if saved not in (None, epoch_layout(runner)) or not 0 < done <= len(loader):
            print_log(
                f'epoch {runner.epoch + 1} begins again: iteration {runner.iter} was '
                f'counted with {saved}, now it is {epoch_layout(runner)}',
                logger='current',
                level=logging.WARNING,
            )
        elif isinstance(loader.batch_sampler, ResumableBatches):
            loader.batch_sampler.skip_batches(done)
        elif stream_sampler_of(loader) is None:
            print_log(
                f'epoch {runner.epoch + 1} begins again: its batch sampler is no '
                'ResumableBatches',
                logger='current',
                level=logging.WARNING,
            )

    def after_train_iter(self, runner, batch_idx: int, *args, **kwargs) -> None:
        """Seed the next iteration, whose images are loaded before it begins."""
        seed_generators(runner.seed, get_rank(), runner.iter + 1)

    def after_val(self, runner) -> None:
        """Seed it again: a validation may have drawn numbers."""
        seed_generators(runner.seed, get_rank(), runner.iter)


def epoch_layout(runner) -> dict[str, int]:
    """What must agree for iteration k to be the same images."""
    return dict(
        iterations_per_epoch=len(runner.train_dataloader), world_size=get_world_size()
    )


def seed_generators(seed: int, rank: int, iteration: int) -> None:
    """Seed Python, NumPy and torch, on all devices, for an iteration of a rank.

    Args:
        seed: of the run.
        rank: of this process.
        iteration: from 0 on.
    """
    words = np.random.SeedSequence([seed, rank, iteration]).generate_state(6)
    random.seed(int(words[0]))
    np.random.seed(words[1:5])
    torch.manual_seed(int(words[5]))
