"""Figures by frequency group in the training log."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from PIL import Image
from torch import nn

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.group_statistics import group_sums
from mmdet_imbalance.core.loss_scores import loss_scores
from mmdet_imbalance.engine.hooks.freq_group_log_hook import (
    FreqGroupLogHook,
)


@pytest.mark.parametrize('has_background', [True, False])
def test_sums_are_those_of_a_loop(has_background):
    torch.manual_seed(0)
    logits = torch.randn(40, 6).double()
    scores = logits.softmax(dim=1) if has_background else logits.sigmoid()
    if not has_background:
        scores[:, 5] = 0
    labels = torch.randint(0, 5, (40,))
    group = torch.tensor([2, 0, 1, 0, 2])
    expected = np.zeros((3, 4))
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        at = expected[group[label]]
        at[0] += 1
        at[1] -= math.log(row[label])
        best = row[label] == max(row[:5])
        at[2] += best
        at[3] += best and row[label] > (row[5] if has_background else 0.5)
    got = group_sums(scores, labels, group, 3)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)
    assert expected[:, 2].sum() > expected[:, 3].sum() > 0
    none = group_sums(scores[:0], labels[:0], group, 3)
    assert none.tolist() == [[0.0] * 4] * 3


NAMES = ('a', 'b', 'c')
NAMES_LOGGED = ('nll', 'acc', 'recall', 'seen')


class ToyHead(nn.Module):
    """A head with fixed logits, so that every figure is known."""

    def __init__(self):
        super().__init__()
        self.num_classes = 3
        from mmdet.models.losses import CrossEntropyLoss

        self.loss_cls = CrossEntropyLoss()
        self.weight = nn.Parameter(torch.zeros(4))
        # a is right, b is taken for a, c is taken for background, the last is none.
        self.logits = torch.tensor(
            [[2.0, 0, 0, 0], [2.0, 1, 0, 0], [0, 0, 1.0, 2], [0, 0, 0, 3.0]]
        )

    def forward(self):
        labels = torch.tensor([0, 1, 2, 3])
        return self.loss_cls(self.logits + self.weight, labels, torch.ones(4))


class ToyModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.head = ToyHead()

    def forward(self, inputs=None, data_samples=None, mode='tensor'):
        return {'loss': self.head() * 1.0}


class ToyData(torch.utils.data.Dataset):
    """Four images; one object of a in each, one of c in the first."""

    @property
    def metainfo(self):
        return {'classes': NAMES}

    def __len__(self):
        return 4

    def __getitem__(self, index):
        sample = DetDataSample()
        labels = [0, 2] if index == 0 else [0]
        sample.gt_instances = InstanceData(labels=torch.tensor(labels))
        return {'inputs': torch.zeros(1), 'data_samples': sample}


@pytest.fixture
def run(tmp_path):
    def run(vis_backends=None, **kwargs):
        count = np.array([500, 50, 5])
        ClassStats(
            class_names=NAMES, img_count=count, instance_count=count, num_images=500
        ).save(tmp_path / 'stats.json')
        hook = FreqGroupLogHook(class_stats=tmp_path / 'stats.json', **kwargs)
        # Two runs of one second would write into one folder.
        work = tmp_path / f'work{len(list(tmp_path.iterdir()))}'
        runner = Runner(
            model=ToyModel(),
            work_dir=str(work),
            train_dataloader={
                'dataset': ToyData(),
                'batch_size': 2,
                'sampler': {'type': 'DefaultSampler', 'shuffle': False},
                'collate_fn': {'type': 'pseudo_collate'},
            },
            train_cfg={'by_epoch': True, 'max_epochs': 3},
            optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.0}},
            default_hooks={'logger': {'type': 'LoggerHook', 'interval': 2}},
            custom_hooks=[hook],
            visualizer=dict(
                type='Visualizer',
                vis_backends=vis_backends or [dict(type='LocalVisBackend')],
            ),
            experiment_name=f'{work.name}{id(hook)}',
        )
        runner.train()
        lines = [
            json.loads(line)
            for path in work.rglob('vis_data/scalars.json')
            for line in path.read_text().splitlines()
        ]
        return runner, lines

    return run


def test_figures_stand_in_the_log(run):
    runner, lines = run(interval=2, measure_every=1)
    softmax = runner.model.head.logits.softmax(dim=1)
    for line in lines:
        assert line['acc_f'] == line['recall_f'] == 1
        assert line['acc_c'] == line['recall_c'] == 0
        # Best of the classes, yet below the background.
        assert (line['acc_r'], line['recall_r']) == (1, 0)
        for k, group in enumerate('fcr'):
            assert line[f'nll_{group}'] == pytest.approx(-float(softmax[k, k].log()))
        assert line['seen_f'] == 1
        assert line['seen_c'] == 0
        assert line['seen_r'] == pytest.approx(0.25)
    assert len(lines) == 3


def test_histogram_is_what_the_sampler_showed(run):
    runner, _ = run(interval=2, measure_every=7)
    path = runner.work_dir + '/class_histogram.json'
    with open(path, encoding='utf-8') as file:
        content = json.load(file)
    assert content['images'] == 12
    assert content['objects_shown'] == {'a': 12, 'b': 0, 'c': 3}
    assert content['objects_in_dataset'] == {'a': 500, 'b': 50, 'c': 5}


def test_histogram_is_drawn_for_the_visualiser_once_an_epoch(run):
    runner, _ = run(interval=2)
    pictures = sorted(Path(runner.work_dir).rglob('class_histogram_*.png'))
    assert [p.stem.rsplit('_', 1)[1] for p in pictures] == ['2', '4', '6']
    with Image.open(pictures[0]) as picture:
        assert min(picture.size) > 200
        assert len(picture.convert('L').getcolors(256)) > 5
    other, _ = run(interval=2, draw_histogram=False)
    assert not list(Path(other.work_dir, other.timestamp).rglob('*histogram*.png'))


def test_figures_and_histogram_reach_tensorboard(run):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    runner, _ = run(
        vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
        interval=2,
        measure_every=1,
    )
    events = next(Path(runner.work_dir).rglob('events.out.tfevents*'))
    board = EventAccumulator(str(events.parent), size_guidance={'scalars': 0})
    board.Reload()
    names = {f'{what}_{group}' for what in NAMES_LOGGED for group in 'rcf'}
    assert names <= set(board.Tags()['scalars'])
    assert [e.value for e in board.Scalars('acc_f')] == [1, 1, 1]
    assert [e.value for e in board.Scalars('seen_r')] == pytest.approx([0.25] * 3)
    assert 'class_histogram' in board.Tags()['images']


def test_between_two_looks_nothing_is_computed():
    from mmdet.models.losses import CrossEntropyLoss

    loss = CrossEntropyLoss()
    hook = FreqGroupLogHook(measure_every=10)
    hook._group = np.arange(601) % 3
    hook._sums = hook._device_group = None
    hook._is_measuring = False
    logits, labels = torch.randn(2048, 602), torch.full((2048,), 601)
    labels[:512] = torch.arange(512)
    arguments = (logits, labels, torch.ones(2048))
    hook._on_loss(loss, arguments, None)
    assert hook._sums is None
    hook._is_measuring = True
    hook._on_loss(loss, arguments, None)
    assert hook._sums[:, 0].sum() == 512


def test_thresholds_regroup_and_the_hook_lets_go(run):
    runner, lines = run(interval=2, measure_every=1, freq_thresholds=(500, 500))
    assert 'acc_f' not in lines[-1]
    assert lines[-1]['acc_r'] == pytest.approx(2 / 3)
    assert not runner.model.head.loss_cls._forward_hooks


def test_scores_of_every_kind_of_loss():
    from mmdet.models.losses import CrossEntropyLoss, FocalLoss

    logits = torch.randn(5, 4)
    softmax = loss_scores(CrossEntropyLoss(), logits, 3)
    torch.testing.assert_close(softmax, logits.softmax(1))
    sigmoid = loss_scores(FocalLoss(), logits[:, :3], 3)
    torch.testing.assert_close(sigmoid[:, :3], logits[:, :3].sigmoid())
    assert (sigmoid[:, 3] == 0).all()


def test_bad_intervals_are_named():
    with pytest.raises(ValueError, match='`interval` must be at least 1, got 0'):
        FreqGroupLogHook(interval=0)
    with pytest.raises(ValueError, match='`measure_every`'):
        FreqGroupLogHook(measure_every=-1)
