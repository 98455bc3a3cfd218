"""A training that writes down which images it shows; may kill itself, and resume.

Run as a script: `resumable_run.py WORK_DIR LOOP WORKERS [--kill-at ITERATION]`, on one
rank or under `torch.distributed.run`.
"""

import argparse
import os
import signal
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner

from mmdet_imbalance.host import allow_resume
from tests.helpers.labelled_images import LabelledImages, long_tail

MAX_ITERS = 34
NUM_IMAGES = 45
BATCH_SIZE = 3


@DATASETS.register_module()
class LongTailImages(LabelledImages):
    def __init__(self):
        dataset = long_tail(NUM_IMAGES)
        super().__init__(dataset.labels, 6)


@MODELS.register_module()
class Diary(BaseModel):
    """Appends the images of each step to a file."""

    def __init__(self, folder, kill_at):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.folder, self.kill_at, self.steps = Path(folder), kill_at, 0

    def forward(self, *images, mode='loss'):
        with open(self.folder / f'rank{get_rank()}.txt', 'a') as file:
            file.write(' '.join(str(int(index)) for index in images) + '\n')
        self.steps += 1
        if self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return {'loss': self.weight.sum()}


def run(folder, loop, workers, world_size, kill_at=None, resume=False, seed=None):
    by_epoch = loop == 'epoch'
    iters_per_epoch = -(-NUM_IMAGES // world_size // BATCH_SIZE)
    sampler = dict(
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, 0.0), (1, 0.7)] if by_epoch else [(0, 0.0), (13, 0.7)],
        by_epoch=by_epoch,
        verbose=False,
    )
    if seed is not None:
        sampler['seed'] = seed
    Path(folder).mkdir(parents=True, exist_ok=True)
    runner = Runner(
        model=dict(type='Diary', folder=str(folder), kill_at=kill_at),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=BATCH_SIZE,
            num_workers=workers,
            persistent_workers=workers > 0,
            dataset=dict(type='LongTailImages'),
            sampler=sampler,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=MAX_ITERS // iters_per_epoch)
        if by_epoch
        else dict(by_epoch=False, max_iters=MAX_ITERS),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=4, by_epoch=False)
        ),
        custom_hooks=[dict(type='mmdet_imbalance.DataSamplerHook')],
        launcher='pytorch' if world_size > 1 else 'none',
        # Without GPUs the default wrapper names devices that are not there.
        cfg=dict(
            model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)
        ),
        env_cfg=dict(mp_cfg=dict(mp_start_method='fork')),
        resume=resume,
        log_level='WARNING',
        default_scope='mmengine',
        experiment_name=Path(folder).name + str(resume),
    )
    runner.train()
    return runner.train_dataloader.sampler.seed


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('loop', choices=('epoch', 'iter'))
    parser.add_argument('workers', type=int)
    parser.add_argument('--kill-at', type=int)
    args = parser.parse_args()
    # The upstream host loads no checkpoint of its own without.
    allow_resume()
    world_size = int(os.environ.get('WORLD_SIZE', 1))
    if world_size > 1:
        # The host's own start of a group asks for a GPU, whatever the backend.
        torch.distributed.init_process_group('gloo')
    if args.kill_at:
        run(args.work_dir, args.loop, args.workers, world_size, kill_at=args.kill_at)
    else:
        seed = run(args.work_dir, args.loop, args.workers, world_size, resume=True)
        whole = args.work_dir.with_name('whole')
        run(whole, args.loop, args.workers, world_size, seed=seed)
