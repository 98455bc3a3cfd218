"""Hook that lets a data sampler of the package continue exactly where it was.

The sampler's stream is a pure function of the labels, the seed and the position; what
a resumed training lacks is the seed (the host builds the sampler before it reads the
seed of the checkpoint) and, in the epoch loop, the position within the epoch (the host
begins the epoch again).
"""

import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader

from mmdet_imbalance.datasets.samplers.resumable_batches import ResumableBatches
from mmdet_imbalance.datasets.samplers.stream_sampler import StreamSampler
from mmdet_imbalance.engine.advanced_batches import advance_batches
from mmdet_imbalance.registry import HOOKS

CHECKPOINT_KEY = 'mmdet_imbalance.data_sampler'
#: What must agree for a resumed training to show the very same images.
POSITION_KEYS = ('batch_size', 'world_size')


@HOOKS.register_module()
class DataSamplerHook(Hook):
    """Tell the data sampler its batch size, keep its seed, resume within an epoch.

    Does nothing where the training has a data sampler of the host.
    """

    # After the host's hook that sets the epoch of the sampler.
    priority = 'BELOW_NORMAL'

    def __init__(self) -> None:
        self._saved = None

    def before_train(self, runner) -> None:
        """Check sampler against loop, and hand over the batch size."""
        sampler = stream_sampler_of(runner.train_dataloader)
        if sampler is None:
            return
        sampler.set_batch_size(batch_size_of(runner.train_dataloader))
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if by_epoch and sampler.infinite:
            raise ValueError(
                f'the stream of {type(sampler).__name__} never ends, but '
                f'{type(runner.train_loop).__name__} waits for the end of an epoch: '
                'write `infinite=False` in the sampler'
            )
        if not by_epoch and not sampler.infinite:
            print_log(
                f'{type(sampler).__name__} gives one epoch after the other, and '
                f'{type(runner.train_loop).__name__} cannot resume it: write '
                '`infinite=True` in the sampler',
                logger='current',
                level=logging.WARNING,
            )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep what determines the stream."""
        sampler = stream_sampler_of(runner.train_dataloader)
        if sampler is not None:
            checkpoint[CHECKPOINT_KEY] = dict(
                seed=int(sampler.seed),
                batch_size=batch_size_of(runner.train_dataloader),
                world_size=sampler.world_size,
            )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Remember it; whether the training resumes is only known when it starts."""
        self._saved = checkpoint.get(CHECKPOINT_KEY)

    def before_train_epoch(self, runner) -> None:
        """At the beginning of a resumed training, return to the place in the stream."""
        saved, self._saved = self._saved, None
        sampler = stream_sampler_of(runner.train_dataloader)
        # A checkpoint that was only loaded leaves the training at iteration 0.
        if saved is None or sampler is None or runner.iter == 0:
            return
        sampler.seed = saved['seed']
        now = dict(
            batch_size=batch_size_of(runner.train_dataloader),
            world_size=sampler.world_size,
        )
        changed = [
            f'{key} {saved[key]} -> {now[key]}'
            for key in POSITION_KEYS
            if saved[key] != now[key]
        ]
        if changed:
            print_log(
                f'the resumed training has another {" and ".join(changed)}: it will '
                'not show the very images that the interrupted one had to come',
                logger='current',
                level=logging.WARNING,
            )
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._resume_within_epoch(runner, sampler)
        else:
            advance_batches(runner.train_loop, runner.iter)

    def _resume_within_epoch(self, runner, sampler: StreamSampler) -> None:
        loader = runner.train_dataloader
        done = runner.iter - runner.epoch * len(loader)
        # A batch sampler that leaves batches out is told by `ExactResumeHook`.
        if done == 0 or isinstance(loader.batch_sampler, ResumableBatches):
            return
        # Other batch samplers hold images back: the number of batches does not tell
        # how many images were drawn.
        plain = type(loader.batch_sampler) is BatchSampler
        if not plain or not 0 < done <= len(loader):
            print_log(
                f'cannot continue within epoch {runner.epoch + 1} (iteration '
                f'{runner.iter}, {len(loader)} an epoch, batch sampler '
                f'{type(loader.batch_sampler).__name__}): it begins again',
                logger='current',
                level=logging.WARNING,
            )
            return
        # A checkpoint of the last iteration still belongs to its epoch, which is then
        # over at once; its last batch may have been a short one.
        sampler.skip(min(done * loader.batch_size, len(sampler)))


def stream_sampler_of(loader: DataLoader) -> StreamSampler | None:
    """The data sampler of the package that a loader draws from, if it has one."""
    batch_sampler = getattr(loader, 'batch_sampler', None)
    for sampler in (getattr(loader, 'sampler', None), batch_sampler):
        sampler = getattr(sampler, 'sampler', sampler)
        if isinstance(sampler, StreamSampler):
            return sampler
    return None


def batch_size_of(loader: DataLoader) -> int:
    """Images of a rank in an iteration."""
    return loader.batch_size or loader.batch_sampler.batch_size
