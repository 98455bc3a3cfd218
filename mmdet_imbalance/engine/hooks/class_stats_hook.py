"""Hands the statistics of the training set to everything that asks for them.

A module of the model, a data sampler or a metric asks by having a method
`set_class_stats(stats)`.

Ranks: rank 0 counts (or reads the cache), all others get its result, so that all have
the same numbers whatever their disks hold.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from mmdet_imbalance.core.class_histogram import summary
from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.datasets.label_index import class_names
from mmdet_imbalance.registry import HOOKS


@HOOKS.register_module()
class ClassStatsHook(Hook):
    """Counts the training set once and distributes the statistics.

    Before training: to the modules of the model (and of its moving average) and to the
    data sampler. Before validation and test: to the metrics. A model under test is left
    alone: what its losses derived from statistics is in its checkpoint. In a test
    without training the training set is read for the metrics only, from the config; if
    its files are absent, the metrics get nothing and a warning says so.

    Args:
        class_stats: file that `tools/class_stats.py` wrote, in place of counting.
        cache_dir: folder of the cache; None takes the default of
            `mmdet_imbalance.datasets.class_stats`.
        freq_thresholds: most training images of a rare and of a common class; None
            takes the groups of the annotation, else LVIS's 10 and 100.
    """

    # Before the hooks that copy the model's state or start to log it.
    priority = 'VERY_HIGH'

    def __init__(
        self,
        class_stats: str | Path | None = None,
        cache_dir: str | Path | None = None,
        freq_thresholds: tuple[int, int] | None = None,
    ) -> None:
        self.class_stats = class_stats
        self.cache_dir = cache_dir
        self.freq_thresholds = freq_thresholds
        self._stats: ClassStats | None = None
        self._served: set[int] = set()

    def before_train(self, runner: Runner) -> None:
        """Count, compare the class names, hand out to model and sampler."""
        dataset = runner.train_dataloader.dataset
        stats = self._get(dataset)
        self._check(stats, dataset, 'train_dataloader')
        print_log(summary(stats), logger='current')
        modules = list(_modules(runner.model))
        for hook in runner.hooks:
            # EMAHook copied the model before anything was known of the classes.
            averaged = getattr(hook, 'ema_model', None)
            if averaged is not None:
                modules += _modules(averaged)
        for receiver in (*modules, *_samplers(runner.train_dataloader)):
            receiver.set_class_stats(stats)

    def before_val(self, runner: Runner) -> None:
        """Hand out to the metrics of the validation."""
        self._serve_metrics(runner, runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Hand out to the metrics of the test."""
        self._serve_metrics(runner, runner.test_loop)

    def _serve_metrics(self, runner: Runner, loop: Any) -> None:
        metrics = [
            metric
            for metric in getattr(loop.evaluator, 'metrics', ())
            if callable(getattr(metric, 'set_class_stats', None))
            and id(metric) not in self._served
        ]
        if not metrics:
            return
        stats = self._stats
        if stats is None:
            stats = self._without_training(runner)
        if stats is None:
            return
        self._check(stats, loop.dataloader.dataset, type(loop).__name__)
        for metric in metrics:
            metric.set_class_stats(stats)
            self._served.add(id(metric))

    def _without_training(self, runner: Runner) -> ClassStats | None:
        """Statistics where no training loop was built: from the file or the config."""
        if self.class_stats is not None:
            return self._get(None)
        dataset = runner.cfg.get('train_dataloader', {}).get('dataset')
        if dataset is None:
            return None
        try:
            return self._get(dataset)
        except FileNotFoundError as error:
            print_log(
                'the metrics get no class statistics, because the training set is '
                f'absent ({error}); give ClassStatsHook `class_stats=FILE`, made by '
                'tools/class_stats.py, to have groups by training frequency',
                logger='current',
                level=logging.WARNING,
            )
            return None

    def _get(self, dataset: Any) -> ClassStats:
        """Statistics, the same on every rank.

        Args:
            dataset: a dataset, or its config, of which only rank 0 builds it.
        """
        if self._stats is not None:
            return self._stats
        result: list = [None]
        if get_rank() == 0:
            try:
                result = [self._make(dataset).to_dict()]
            except Exception as error:  # the other ranks are waiting: tell them
                result = [error]
        broadcast_object_list(result)
        if isinstance(result[0], BaseException):
            raise result[0]
        self._stats = ClassStats.from_dict(result[0])
        return self._stats

    def _make(self, dataset: Any) -> ClassStats:
        if self.class_stats is not None:
            return ClassStats.load(self.class_stats)
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        return class_stats_of(
            dataset, self.cache_dir, freq_thresholds=self.freq_thresholds
        )

    def _check(self, stats: ClassStats, dataset: Any, where: str) -> None:
        names = class_names(dataset)
        if names is None:
            return
        try:
            stats.check_classes(names)
        except ValueError as error:
            source = self.class_stats or 'the training set'
            raise ValueError(f'{where} against {source}: {error}') from error


def _modules(model: Any) -> Iterable:
    """Modules that ask for statistics; those of a wrapped model are its children."""
    return (
        module
        for module in model.modules()
        if callable(getattr(module, 'set_class_stats', None))
    )


def _samplers(dataloader: Any) -> list:
    """Distinct samplers of a data loader that ask for statistics."""
    batch_sampler = getattr(dataloader, 'batch_sampler', None)
    found = [
        getattr(dataloader, 'sampler', None),
        batch_sampler,
        getattr(batch_sampler, 'sampler', None),
    ]
    asking = [s for s in found if callable(getattr(s, 'set_class_stats', None))]
    return list({id(sampler): sampler for sampler in asking}.values())
