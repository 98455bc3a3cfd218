"""Calibrates scores by training frequency in validation and test, in any head.

Methods and sources: `core/calibration.py`. The logits of the classification layer are
changed before they reach the activation of the loss, so it works with every loss of
this package and of the host; training is never touched.

Shapes: C classes, A anchors a place. Deviations: those of `core/calibration.py`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_imbalance.core.calibration import (
    METHODS,
    logit_adjustment,
    norcal,
    tau_normalization,
)
from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.registry import HOOKS

COUNTS = ('img_count', 'instance_count')
#: Names of the classification layers in the heads of the host.
LAYERS = ('fc_cls', 'retina_cls', 'gfl_cls', 'atss_cls', 'conv_cls')


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Logit adjustment, NorCal or tau-normalisation at test time.

    `tools/calibrate.py` finds the strength on the validation set. Choose it there, and
    report figures on other images.

    Args:
        method: 'logit_adjustment', 'norcal' or 'tau_normalization'.
        strength: tau or gamma of the method; 0 changes nothing.
        counts: 'img_count' or 'instance_count' of the training set.
        class_stats: file that `tools/class_stats.py` wrote; None counts the training
            set of the config (cached).
        layers: names of the classification layers of heads that have one logit for
            each class of the dataset.
    """

    priority = 'LOW'

    def __init__(
        self,
        method: str,
        strength: float,
        counts: str = 'img_count',
        class_stats: str | Path | ClassStats | None = None,
        layers: Sequence[str] = LAYERS,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f'`method` must be one of {METHODS}, got {method!r}')
        if counts not in COUNTS:
            raise ValueError(f'`counts` must be one of {COUNTS}, got {counts!r}')
        self.method = method
        self.strength = strength
        self.counts = counts
        self.class_stats = class_stats
        self.layers = tuple(layers)
        self._handles: list[Any] = []

    def before_val(self, runner: Runner) -> None:
        """Start to calibrate."""
        self._attach(runner, runner.val_loop)

    def after_val(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self.detach()

    def before_test(self, runner: Runner) -> None:
        """Start to calibrate."""
        self._attach(runner, runner.test_loop)

    def after_test(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self.detach()

    def detach(self) -> None:
        """Stop to calibrate."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def attach(self, model: nn.Module, stats: ClassStats) -> int:
        """Calibrate a model until `detach`; returns the number of layers."""
        self.detach()
        counts = torch.as_tensor(getattr(stats, self.counts), dtype=torch.float32)
        for layer in self._find_layers(model, stats.num_classes):
            hook = self._hook(counts)
            self._handles.append(layer.register_forward_hook(hook))
        if not self._handles:
            raise ValueError(
                f'CalibrationHook found no head with num_classes={stats.num_classes} '
                f'and a layer named {" or ".join(self.layers)}; name its '
                'classification layer in `layers`'
            )
        return len(self._handles)

    def _attach(self, runner: Runner, loop: Any) -> None:
        stats = self._get_stats(runner)
        names = getattr(loop.dataloader.dataset, 'metainfo', {}).get('classes')
        if names is not None:
            stats.check_classes(names)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.attach(model, stats)

    def _get_stats(self, runner: Runner) -> ClassStats:
        if isinstance(self.class_stats, ClassStats):
            return self.class_stats
        if self.class_stats is not None:
            self.class_stats = ClassStats.load(self.class_stats)
            return self.class_stats
        config = runner.cfg.get('train_dataloader') or {}
        if 'dataset' not in config:
            raise ValueError(
                'CalibrationHook needs the counts of the training set: the config has '
                "no `train_dataloader.dataset`; write `class_stats='FILE'` (made by "
                'tools/class_stats.py)'
            )
        self.class_stats = class_stats_of(DATASETS.build(config['dataset']))
        return self.class_stats

    def _find_layers(self, model: nn.Module, num_classes: int) -> Iterator[nn.Module]:
        for module in model.modules():
            if getattr(module, 'num_classes', None) != num_classes:
                continue
            for name in self.layers:
                layer = getattr(module, name, None)
                if isinstance(layer, nn.Module):
                    yield layer

    def _hook(self, counts: Tensor):
        def hook(layer: nn.Module, args: tuple, logits: Tensor) -> Tensor:
            if layer.training or not self.strength:
                return logits
            if logits.ndim == 4:
                return self._dense(layer, logits, counts)
            return self._rows(logits, counts, *_parameters(layer))

        return hook

    def _dense(self, layer: nn.Module, logits: Tensor, counts: Tensor) -> Tensor:
        """Logits (B, A * C, H, W) of a convolution, anchor by anchor."""
        num_classes = counts.numel()
        if logits.size(1) % num_classes:
            raise ValueError(
                f'the classification layer gives {logits.size(1)} channels, which are '
                f'no multiple of {num_classes} classes'
            )
        rows = logits.permute(0, 2, 3, 1)
        if self.method == 'tau_normalization':
            rows = tau_normalization(rows, *_parameters(layer), self.strength)
        else:
            shape = rows.shape
            rows = rows.reshape(*shape[:-1], -1, num_classes)
            rows = self._rows(rows, counts, None, None).reshape(shape)
        return rows.permute(0, 3, 1, 2).contiguous()

    def _rows(self, logits, counts, weight, bias) -> Tensor:
        if self.method == 'logit_adjustment':
            return logit_adjustment(logits, counts, self.strength)
        if self.method == 'norcal':
            return norcal(logits, counts, self.strength)
        if weight is None:
            raise ValueError(
                "method='tau_normalization' needs a linear classification layer with a "
                '`weight`; use another method for this head'
            )
        num = counts.numel()
        own = tau_normalization(
            logits[..., :num],
            weight[:num],
            None if bias is None else bias[:num],
            self.strength,
        )
        return torch.cat([own, logits[..., num:]], dim=-1)


def _parameters(layer: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    return getattr(layer, 'weight', None), getattr(layer, 'bias', None)
