"""Logs what the training looks like to rare, common and frequent classes.

Shapes: C classes, P positives. Deviations: none (measures of our own).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_imbalance.core.atomic_write import write_text_atomically
from mmdet_imbalance.core.class_stats import ClassStats, freq_groups
from mmdet_imbalance.core.group_statistics import NAMES, group_sums
from mmdet_imbalance.core.label_sets import primary_labels
from mmdet_imbalance.core.loss_scores import loss_scores
from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.registry import HOOKS
from mmdet_imbalance.visualization.seen_figure import seen_picture

GROUPS = ('r', 'c', 'f')


@HOOKS.register_module()
class FreqGroupLogHook(Hook):
    """Adds figures by frequency group to the log, so to TensorBoard, W&B or MLflow.

    `nll_r` (mean negative log score of the true class over positive RoIs or anchors, a
    loss that is comparable between losses), `acc_r` (fraction of positives whose class
    scores best of all classes), `recall_r` (and beats the background, or 0.5 in
    sigmoid detectors), and `seen_r` (objects an image that the data sampler showed);
    the same for `c` and `f`. At the end of the training (and of each epoch) the
    realised class histogram is written to `class_histogram.json` in the work folder,
    and handed as a picture to the visualiser, so to the same places as the figures.

    Args:
        interval: iterations between two lines; each takes in the iterations since.
        measure_every: look into the heads only every so many iterations; the sampler's
            histogram counts all of them.
        class_stats: file that `tools/class_stats.py` wrote; None counts the training
            set (cached).
        freq_thresholds: the most training images of a rare and of a common class.
        draw_histogram: hand the picture of the histogram to the visualiser.
    """

    # Before LoggerHook (BELOW_NORMAL), which writes what is there.
    priority = 'NORMAL'

    def __init__(
        self,
        interval: int = 50,
        measure_every: int = 10,
        class_stats: str | Path | None = None,
        freq_thresholds: Sequence[int] | None = None,
        draw_histogram: bool = True,
    ) -> None:
        for name, value in (('interval', interval), ('measure_every', measure_every)):
            if value < 1:
                raise ValueError(f'`{name}` must be at least 1, got {value}')
        self.interval = interval
        self.measure_every = measure_every
        self.class_stats = class_stats
        self.freq_thresholds = freq_thresholds
        self.draw_histogram = draw_histogram
        self._handles: list[Any] = []
        self._is_measuring = False

    def before_train(self, runner: Runner) -> None:
        """Learn the groups and listen to the classification losses."""
        self._stats = self._get_stats(runner)
        thresholds = self.freq_thresholds
        letters = (
            self._stats.freq_group
            if thresholds is None
            else freq_groups(self._stats.img_count, tuple(thresholds))
        )
        self._group = np.array([GROUPS.index(letter) for letter in letters])
        num_classes = len(self._group)
        self._seen = np.zeros(num_classes, dtype=np.int64)
        self._seen_before = np.zeros(num_classes, dtype=np.int64)
        self._images = self._images_before = self._images_written = 0
        self._sums: Tensor | None = None
        self._device_group: Tensor | None = None
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._listen(model)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Decide whether to look into the heads; count what the sampler shows."""
        self._is_measuring = batch_idx % self.measure_every == 0
        for sample in (data_batch or {}).get('data_samples', ()):
            labels = sample.gt_instances.get('labels')
            self._images += 1
            if labels is None:
                continue
            labels = labels.detach().cpu().numpy()
            known = labels[(labels >= 0) & (labels < len(self._seen))]
            self._seen += np.bincount(known, minlength=len(self._seen))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Hand the means of the last `interval` iterations to the log."""
        self._is_measuring = False
        if not self.every_n_train_iters(runner, self.interval):
            return
        images = self._images - self._images_before
        seen = np.bincount(
            self._group, weights=self._seen - self._seen_before, minlength=len(GROUPS)
        )
        self._seen_before, self._images_before = self._seen.copy(), self._images
        values = {
            f'seen_{group}': float(number) / max(images, 1)
            for group, number in zip(GROUPS, seen, strict=True)
        }
        values |= self._take_means()
        for name, value in values.items():
            runner.message_hub.update_scalar(f'train/{name}', value)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write what the sampler has shown so far."""
        self._write_histogram(runner)

    def after_train(self, runner: Runner) -> None:
        """Write the histogram and stop listening."""
        if self._images != self._images_written:
            self._write_histogram(runner)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _get_stats(self, runner: Runner) -> ClassStats:
        if self.class_stats is not None:
            return ClassStats.load(self.class_stats)
        return class_stats_of(runner.train_dataloader.dataset)

    def _listen(self, model: nn.Module) -> None:
        num_classes = len(self._group)
        for module in model.modules():
            loss = getattr(module, 'loss_cls', None)
            # The RPN's one class is no class of the data.
            if isinstance(loss, nn.Module) and (
                getattr(module, 'num_classes', None) == num_classes
            ):
                self._handles.append(loss.register_forward_hook(self._on_loss))

    @torch.no_grad()
    def _on_loss(self, loss: nn.Module, args: tuple, output: Any) -> None:
        # Keyword calls are of no head of the host.
        if not self._is_measuring or not loss.training or len(args) < 2:
            return
        logits, target = args[0].detach(), args[1]
        if logits.ndim != 2:
            return
        num_classes = len(self._group)
        labels = primary_labels(target, num_classes)
        rows = (labels >= 0) & (labels < num_classes)
        if len(args) > 2 and isinstance(args[2], Tensor):
            weight = args[2] if args[2].ndim == 1 else args[2].amax(dim=1)
            rows &= weight > 0
        rows = rows.nonzero().squeeze(1)
        scores = loss_scores(loss, logits[rows], num_classes)
        if self._device_group is None or self._device_group.device != scores.device:
            self._device_group = torch.as_tensor(self._group, device=scores.device)
        sums = group_sums(scores, labels[rows], self._device_group, len(GROUPS))
        self._sums = sums if self._sums is None else self._sums + sums

    def _take_means(self) -> dict[str, float]:
        sums, self._sums = self._sums, None
        if sums is None:
            # A rank without positives takes part in the sum all the same.
            sums = torch.zeros(len(GROUPS), len(NAMES))
        sums = sums.float()
        all_reduce(sums)
        sums = sums.cpu().numpy()
        return {
            f'{name}_{group}': float(row[column] / row[0])
            for group, row in zip(GROUPS, sums, strict=True)
            for column, name in enumerate(NAMES)
            if column and row[0]
        }

    def _write_histogram(self, runner: Runner) -> None:
        self._images_written = self._images
        seen = torch.as_tensor(np.append(self._seen, self._images))
        all_reduce(seen)
        if not is_main_process():
            return
        names = self._stats.class_names
        counts = dict(zip(names, seen[:-1].tolist(), strict=True))
        content = {
            'images': int(seen[-1]),
            'objects_shown': counts,
            'objects_in_dataset': dict(
                zip(names, self._stats.instance_count.tolist(), strict=True)
            ),
        }
        path = Path(runner.work_dir) / 'class_histogram.json'
        write_text_atomically(path, json.dumps(content, indent=1) + '\n')
        if self.draw_histogram:
            picture = seen_picture(
                names,
                seen[:-1].numpy(),
                self._stats.instance_count,
                f'{int(seen[-1])} images shown',
            )
            runner.visualizer.add_image('class_histogram', picture, step=runner.iter)
