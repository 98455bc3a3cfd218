"""The hook reaches model, moving average, sampler and metrics."""

import json
from typing import ClassVar

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATA_SAMPLERS, METRICS, MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.engine.hooks import class_stats_hook as module
from mmdet_imbalance.engine.hooks.class_stats_hook import ClassStatsHook
from tests.helpers.coco_files import CLASSES, write_coco

TRAIN = [[('cat', 0), ('dog', 0)], [('dog', 0)], [], [('dog', 0)]]


class Probe(nn.Module):
    """A part of a model that derives a buffer from the statistics."""

    def __init__(self):
        super().__init__()
        self.register_buffer('counts', torch.zeros(len(CLASSES), dtype=torch.long))

    def set_class_stats(self, stats):
        self.counts.copy_(torch.as_tensor(stats.img_count))


@MODELS.register_module(name='HookTestModel', force=True)
class HookTestModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.inner = nn.Sequential(Probe())

    def forward(self, inputs=None, mode='tensor', **kwargs):
        return dict(loss=self.weight.sum()) if mode == 'loss' else [BaseDataElement()]


@DATA_SAMPLERS.register_module(name='HookTestSampler', force=True)
class HookTestSampler(DefaultSampler):
    stats = None

    def set_class_stats(self, stats):
        self.stats = stats


@METRICS.register_module(name='HookTestMetric', force=True)
class HookTestMetric(BaseMetric):
    calls: ClassVar = []

    def set_class_stats(self, stats):
        self.calls.append(stats)

    def process(self, data_batch, data_samples):
        pass

    def compute_metrics(self, results):
        return dict(done=1.0)


@pytest.fixture(autouse=True)
def _fresh_calls(monkeypatch, tmp_path):
    monkeypatch.setattr(HookTestMetric, 'calls', [])
    monkeypatch.setenv('MMDET_IMBALANCE_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def folder(tmp_path):
    write_coco(tmp_path / 'train.json', TRAIN)
    write_coco(tmp_path / 'val.json', [[('cow', 0)]])
    return tmp_path


def build(folder, hook=None, val_classes=CLASSES, train_file='train.json', **kwargs):
    def loader(name, classes, **extra):
        return dict(
            batch_size=2,
            num_workers=0,
            collate_fn=dict(type='pseudo_collate'),
            dataset=dict(
                type='mmdet.CocoDataset',
                ann_file=str(folder / name),
                data_prefix=dict(img=''),
                metainfo=dict(classes=classes),
                pipeline=[dict(type='mmdet.PackDetInputs', meta_keys=('img_id',))],
            ),
            **extra,
        )

    sampler = dict(type='HookTestSampler', shuffle=True)
    evaluator = dict(type='HookTestMetric')
    val = loader('val.json', val_classes, sampler=dict(type='DefaultSampler'))
    return Runner.from_cfg(
        Config(
            dict(
                model=dict(type='HookTestModel'),
                work_dir=str(folder / 'work'),
                train_dataloader=loader(train_file, CLASSES, sampler=sampler),
                train_cfg=dict(by_epoch=True, max_epochs=2),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                val_dataloader=val,
                val_cfg=dict(),
                val_evaluator=evaluator,
                test_dataloader=val,
                test_cfg=dict(),
                test_evaluator=evaluator,
                custom_hooks=[
                    dict(type='mmdet_imbalance.ClassStatsHook', **(hook or {}))
                ],
                experiment_name=str(folder).replace('/', '_'),
                **kwargs,
            )
        )
    )


def test_training_reaches_model_average_sampler_and_metrics(folder):
    runner = build(folder)
    runner.register_hook(dict(type='EMAHook'))
    runner.train()
    assert runner.model.inner[0].counts.tolist() == [1, 3, 0]
    average = next(h.ema_model for h in runner.hooks if hasattr(h, 'ema_model'))
    assert average.module.inner[0].counts.tolist() == [1, 3, 0]
    stats = runner.train_dataloader.sampler.stats
    assert stats.img_count.tolist() == [1, 3, 0]
    assert stats.num_images == 4
    # Two epochs, one metric: handed over once.
    assert HookTestMetric.calls == [stats]


def test_test_alone_counts_the_training_set_for_metrics_and_spares_the_model(folder):
    runner = build(folder)
    runner.test()
    assert HookTestMetric.calls[0].img_count.tolist() == [1, 3, 0]
    assert runner.model.inner[0].counts.tolist() == [0, 0, 0]


def test_test_alone_without_training_files_warns_and_goes_on(folder, monkeypatch):
    lines = []
    monkeypatch.setattr(module, 'print_log', lambda text, **_: lines.append(text))
    assert build(folder, train_file='absent.json').test()
    assert HookTestMetric.calls == []
    assert 'absent.json' in lines[0]
    assert 'class_stats=FILE' in lines[0]


def test_validation_alone_takes_the_file(folder):
    path = folder / 'stats.json'
    ClassStats(
        class_names=CLASSES, img_count=[5, 6, 7], instance_count=[5, 6, 7], num_images=9
    ).save(path)
    build(folder, dict(class_stats=str(path)), train_file='absent.json').val()
    assert HookTestMetric.calls[0].img_count.tolist() == [5, 6, 7]


def test_file_of_another_dataset_is_refused(folder):
    path = folder / 'stats.json'
    ClassStats(class_names=['x'], img_count=[1], instance_count=[1], num_images=9).save(
        path
    )
    runner = build(folder, dict(class_stats=str(path)))
    with pytest.raises(ValueError, match=r"train_dataloader against .*'cat', 'dog'"):
        runner.train()


def test_evaluation_on_other_classes_is_refused(folder):
    runner = build(folder, val_classes=('cat', 'cow'))
    with pytest.raises(ValueError, match='ValLoop against the training set'):
        runner.val()


def test_thresholds_regroup(folder):
    runner = build(folder, dict(freq_thresholds=(0, 1)))
    runner.train()
    assert ''.join(runner.train_dataloader.sampler.stats.freq_group) == 'cfr'


def test_histogram_is_logged(folder, monkeypatch):
    lines = []
    monkeypatch.setattr(module, 'print_log', lambda text, **_: lines.append(text))
    build(folder).train()
    assert len(lines) == 1
    assert '4 images, 4 labels, 3 classes' in lines[0]
    assert 'classes without images: cow' in lines[0]


def test_checkpoint_carries_what_was_derived(folder):
    runner = build(folder)
    runner.train()
    write_coco(folder / 'train.json', TRAIN * 2)
    later = build(folder, load_from=str(folder / 'work' / 'epoch_2.pth'))
    later.test()
    assert later.model.inner[0].counts.tolist() == [1, 3, 0]
    assert HookTestMetric.calls[-1].img_count.tolist() == [2, 6, 0]


def _rank(rank, folder, ann_files):
    """One of two processes; only rank 0's file is counted."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2
    )
    hook = ClassStatsHook(cache_dir=f'{folder}/cache{rank}')
    try:
        dataset = dict(
            type='mmdet.CocoDataset',
            ann_file=ann_files[rank],
            data_prefix=dict(img=''),
            metainfo=dict(classes=CLASSES),
        )
        counts = hook._get(dataset).img_count.tolist()
    except FileNotFoundError as error:
        counts = str(error)
    with open(f'{folder}/rank{rank}.json', 'w') as file:
        json.dump(counts, file)


@pytest.mark.slow
@pytest.mark.parametrize('broken', [False, True])
def test_all_ranks_have_what_rank_0_counted(folder, broken):
    if broken:
        (folder / 'train.json').unlink()
    files = [str(folder / 'train.json'), str(folder / 'val.json')]
    context = torch.multiprocessing.get_context('spawn')
    workers = [
        context.Process(target=_rank, args=(rank, str(folder), files))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(180)
        assert worker.exitcode == 0
    counts = [json.loads((folder / f'rank{k}.json').read_text()) for k in range(2)]
    assert counts[0] == counts[1]
    if broken:
        assert 'train.json' in counts[0]
    else:
        assert counts[0] == [1, 3, 0]
