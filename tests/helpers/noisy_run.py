"""A training that draws from all generators, of milliseconds, and ways to stop it.

The weights depend on every number that is drawn and on the order of the images, so that
two runs with the same weights have done the same.
"""

import os
import random
import signal
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch.utils.data import Dataset

BATCH_SIZE, NUM_POINTS = 3, 16
ITERS_PER_EPOCH = 6

CONFIG = """
custom_imports = dict(
    imports=['tests.helpers.noisy_run', 'mmdet_imbalance.engine'],
    allow_failed_imports=False)
default_scope = 'mmengine'
model = dict(type='NoisyLine')
points = dict(type='NoisyPoints')
train_dataloader = dict(
    batch_size=3, num_workers={workers}, dataset=points,
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=4, num_workers=0, dataset=points,
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='NoMetric')
val_cfg = dict(type='ValLoop')
train_cfg = {train_cfg}
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=9)]
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', {checkpoint}),
    logger=dict(type='LoggerHook', interval=50))
custom_hooks = [{stop}]
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'))
log_level = 'WARNING'
"""
EPOCHS = 'dict(by_epoch=True, max_epochs=3)'
ITERATIONS = 'dict(by_epoch=False, max_iters=18, val_interval=7)'


def write_config(
    folder: Path,
    stop: str = '',
    train_cfg: str = EPOCHS,
    checkpoint: str = 'interval=1',
    workers: int = 0,
    extra: str = '',
) -> Path:
    """Write the config; a folder of its own for each, since the host names runs by it.

    Args:
        folder: where it is written.
        stop: config of a hook, as text.
        train_cfg: the loop.
        checkpoint: arguments of the checkpoint hook.
        workers: processes that load data.
        extra: lines at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'noisy.py'
    text = CONFIG.format(
        stop=stop, train_cfg=train_cfg, checkpoint=checkpoint, workers=workers
    )
    path.write_text(text + extra)
    return path


@DATASETS.register_module(force=True)
class NoisyPoints(Dataset):
    """Points with noise of two generators."""

    def __len__(self) -> int:
        return NUM_POINTS

    def __getitem__(self, index: int) -> torch.Tensor:
        noise = [np.random.normal(), random.random()]
        return torch.tensor([index / NUM_POINTS, *noise], dtype=torch.float64)


@MODELS.register_module(force=True)
class NoisyLine(BaseModel):
    """Fits nothing in particular."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, *inputs, mode='loss'):
        points = torch.stack(inputs)
        if mode != 'loss':
            torch.rand(5)
            return [{} for _ in points]
        kept = torch.rand(3, dtype=torch.float64) > 0.3
        return {'loss': ((points * kept) @ self.weight - 1).square().mean()}


@METRICS.register_module(force=True)
class NoMetric(BaseMetric):
    """A figure that says nothing."""

    def process(self, data_batch, data_samples) -> None:
        self.results += data_samples

    def compute_metrics(self, results) -> dict[str, float]:
        return {'count': len(results)}


@HOOKS.register_module(force=True)
class Stop(Hook):
    """Sends a signal to its own process after an iteration.

    Args:
        at: iteration, from 1 on; of the run, not of the process.
        name: of the signal.
        once: file that is made; where it exists nothing is sent.
        phase: 'train', or 'val': the batch of a validation.
    """

    priority = 'VERY_HIGH'

    def __init__(self, at: int, name: str, once: str, phase: str = 'train') -> None:
        self.at, self.signal = at, signal.Signals[name]
        self.once, self.phase = Path(once), phase

    def after_train_iter(self, runner, batch_idx, *args, **kwargs) -> None:
        if self.phase == 'train' and runner.iter + 1 == self.at:
            self._send()

    def after_val_iter(self, runner, batch_idx, *args, **kwargs) -> None:
        if self.phase == 'val' and batch_idx + 1 == self.at:
            self._send()

    def _send(self) -> None:
        if not self.once.exists():
            self.once.touch()
            os.kill(os.getpid(), self.signal)
