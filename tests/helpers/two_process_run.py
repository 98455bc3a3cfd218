"""The same trainings in one process and in two; run as a script by each of the two.

`python -m tests.helpers.two_process_run FOLDER` with RANK and WORLD_SIZE set writes
`FOLDER/rank<r>.pt`.

What is chosen so that equality is exact by right: every image has boxes at the same
places, so each rank has the same number of positives (the host divides by the number
of its own rank), batch norm uses fixed statistics, and nothing draws random numbers
but the data sampler, which all ranks share.
"""

import json
import os
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from PIL import Image
from torch.nn.parallel import DistributedDataParallel

from mmdet_imbalance.cli.runs import build_runner, prepare, set_seed
from mmdet_imbalance.models.losses import EqualizationLossV2, SeesawLoss
from tests.helpers.tiny_run import CLASSES, write_config

STEPS = 10
GLOBAL_BATCH = 4
NUM_CLASSES = 5
LOSSES = {'eqlv2': (EqualizationLossV2, 1), 'seesaw': (SeesawLoss, 2)}

EXTRA = """
model['backbone'].update(norm_eval=True)
model['bbox_head'].update(
    type='mmdet_imbalance.ImbalanceRetinaHead',
    loss_cls=dict(
        _delete_=True, type='mmdet_imbalance.GHMClassificationLoss', num_classes=3,
        use_sigmoid=True, momentum=0.75))
train_dataloader['batch_size'] = {batch_size}
train_dataloader['batch_sampler'] = None
train_dataloader['sampler'] = dict(
    _delete_=True, type='mmdet_imbalance.SoftBalanceSampler', by_epoch=False,
    schedule=[(0, 0.0), (5, 0.7)], verbose=False)
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=10, val_interval=100)
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
optim_wrapper = dict(optimizer=dict(lr=0.02))
default_hooks['checkpoint'] = dict(by_epoch=False, interval=100, save_last=False)
custom_hooks = [
    dict(type='mmdet_imbalance.ClassStatsHook'),
    dict(type='mmdet_imbalance.DataSamplerHook')]
"""


def write_data(folder: Path, num_images: int = 14) -> Path:
    """Write noise with boxes at three places; the classes are long-tailed."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, rows = [], []
    for i in range(num_images):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.png')
        images.append(dict(id=i, file_name=f'{i}.png', width=64, height=64))
        for place in range(3):
            label = 2 if i == 3 else int(i % 4 == 0 and place == 1)
            box = [4 + 20 * place, 6 + 15 * place, 16, 16]
            rows.append(
                dict(
                    id=len(rows) + 1,
                    image_id=i,
                    category_id=label + 1,
                    bbox=box,
                    area=256,
                    iscrowd=0,
                )
            )
    categories = [dict(id=k + 1, name=name) for k, name in enumerate(CLASSES)]
    content = dict(images=images, annotations=rows, categories=categories)
    (folder / 'train.json').write_text(json.dumps(content))
    return folder


class Diary(Hook):
    """Keeps the images and the loss of each iteration."""

    def __init__(self) -> None:
        self.images: list[list[int]] = []
        self.losses: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.images.append([s.img_id for s in data_batch['data_samples']])
        self.losses.append(outputs['loss'].item())


def train_detector(folder: Path, world_size: int) -> dict:
    """Ten iterations of RetinaNet with GHM and soft balance."""
    rank = int(os.environ.get('RANK', 0)) if world_size > 1 else 0
    place = folder / f'{world_size}_{rank}'
    place.mkdir()
    extra = EXTRA.format(batch_size=GLOBAL_BATCH // world_size)
    cfg = Config.fromfile(str(write_config(place, folder / 'data', extra)))
    launcher = 'pytorch' if world_size > 1 else 'none'
    prepare(
        cfg,
        Namespace(
            launcher=launcher, work_dir=str(place), local_rank=rank, config='tiny.py'
        ),
    )
    set_seed(cfg, 1)
    cfg.visualizer.name = cfg.experiment_name = place.name
    runner = build_runner(cfg)
    diary = Diary()
    runner.register_hook(diary)
    runner.train()
    model = getattr(runner.model, 'module', runner.model)
    return dict(images=diary.images, losses=diary.losses, state=model.state_dict())


def train_head(name: str, rank: int, world_size: int) -> dict:
    """Ten steps of a linear classifier; a rank sees every second row."""
    generator = torch.Generator().manual_seed(5)
    cls, extra = LOSSES[name]
    loss_fn = cls(NUM_CLASSES)
    head = torch.nn.Linear(6, NUM_CLASSES + extra, dtype=torch.float64)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model = DistributedDataParallel(head) if world_size > 1 else head
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    losses = []
    for _ in range(STEPS):
        rows = torch.randn(20, 6, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, NUM_CLASSES + 1, (20,), generator=generator)
        # The second rank sees fewer classes than the first.
        labels[1::2] = labels[1::2].clamp(min=3)
        loss = loss_fn(model(rows[rank::world_size]), labels[rank::world_size])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return dict(losses=losses, state=head.state_dict(), statistics=loss_fn.state_dict())


def train_all(folder: Path, rank: int, world_size: int) -> dict:
    """All trainings."""
    heads = {name: train_head(name, rank, world_size) for name in LOSSES}
    return dict(heads, detector=train_detector(folder, world_size))


if __name__ == '__main__':
    folder = Path(sys.argv[1])
    rank, world_size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/meeting',
        rank=rank,
        world_size=world_size,
    )
    torch.save(train_all(folder, rank, world_size), folder / f'rank{rank}.pt')
    torch.distributed.destroy_process_group()
