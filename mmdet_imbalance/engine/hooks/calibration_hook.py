"""Calibrates scores by training frequency in validation and test, in any head.

Methods and sources: `core/calibration.py`. The logits of the classification layer are
changed before they reach the activation of the loss, so it works with every loss of
this package and of the host; training is never touched.

Shapes: C classes, A anchors a place. Deviations: those of `core/calibration.py`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
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
    SPACE_EXPONENT,
    fractal_calibration,
    logit_adjustment,
    norcal,
    tau_normalization,
)
from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.fractal_dimension import fractal_dimension
from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.datasets.object_centers import object_centers
from mmdet_imbalance.registry import HOOKS

COUNTS = ('img_count', 'instance_count')
#: Names of the classification layers in the heads of the host.
LAYERS = ('fc_cls', 'retina_cls', 'gfl_cls', 'atss_cls', 'conv_cls')


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Logit adjustment, NorCal, tau-normalisation or FRACAL at test time.

    `tools/calibrate.py` finds the strength on the validation set. Choose it there, and
    report figures on other images.

    Args:
        method: 'logit_adjustment', 'norcal', 'tau_normalization' or 'fractal', which
            also looks where in the training images the objects stand.
        strength: tau or gamma of the method (fractal: factor of both of its parts); 0
            changes nothing.
        counts: 'img_count' or 'instance_count' of the training set.
        class_stats: file that `tools/class_stats.py` wrote; None counts the training
            set of the config (cached).
        layers: names of the classification layers of heads that have one logit for
            each class of the dataset.
        space_exponent: lambda of method='fractal', and of no other; None for 2.
    """

    priority = 'LOW'

    def __init__(
        self,
        method: str,
        strength: float,
        counts: str = 'img_count',
        class_stats: str | Path | ClassStats | None = None,
        layers: Sequence[str] = LAYERS,
        space_exponent: float | None = None,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f'`method` must be one of {METHODS}, got {method!r}')
        if counts not in COUNTS:
            raise ValueError(f'`counts` must be one of {COUNTS}, got {counts!r}')
        if space_exponent is not None and method != 'fractal':
            raise ValueError(
                f"`space_exponent` is of method='fractal', got it with {method!r}"
            )
        self.method = method
        self.strength = strength
        self.space_exponent = (
            SPACE_EXPONENT if space_exponent is None else space_exponent
        )
        self.counts = counts
        self.class_stats = class_stats
        self.layers = tuple(layers)
        self._handles: list[Any] = []
        self._dimension: Tensor | None = None

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

    def attach(
        self, model: nn.Module, stats: ClassStats, dimension: Tensor | None = None
    ) -> int:
        """Calibrate a model until `detach`.

        Args:
            model: detector or head.
            stats: of the training set.
            dimension: fractal dimension of each class for method='fractal', shape
                (C,); None keeps that of the training set.

        Returns:
            Number of calibrated layers.
        """
        self.detach()
        self._dimension = self._dimension if dimension is None else dimension
        self._counts = torch.as_tensor(getattr(stats, self.counts), dtype=torch.float32)
        for layer in self._find_layers(model, stats.num_classes):
            hook = functools.partial(self._calibrate, self._counts)
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
        if self.method == 'fractal' and self._dimension is None:
            self._dimension = self._get_dimension(runner, stats)
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

    def _get_dimension(self, runner: Runner, stats: ClassStats) -> Tensor:
        config = runner.cfg.get('train_dataloader') or {}
        if 'dataset' not in config:
            raise ValueError(
                "method='fractal' needs the places of the training objects, and the "
                'config has no `train_dataloader.dataset`'
            )
        centers, labels = object_centers(DATASETS.build(config['dataset']))
        return torch.as_tensor(fractal_dimension(centers, labels, stats.num_classes))

    def _find_layers(self, model: nn.Module, num_classes: int) -> Iterator[nn.Module]:
        for module in model.modules():
            if getattr(module, 'num_classes', None) != num_classes:
                continue
            for name in self.layers:
                layer = getattr(module, name, None)
                if isinstance(layer, nn.Module):
                    yield layer

    def calibrated(self, head: nn.Module) -> Callable[[Tensor], Tensor]:
        """From the logits of a head's classification layer to calibrated ones.

        Args:
            head: part of the model that the hook is attached to.
        """
        layer = next(self._find_layers(head, self._counts.numel()))
        return lambda logits: self._calibrate(self._counts, layer, (), logits)

    def _calibrate(
        self, counts: Tensor, layer: nn.Module, args: tuple, logits: Tensor
    ) -> Tensor:
        if layer.training or not self.strength:
            return logits
        if logits.ndim == 4:
            calibrated = self._dense(layer, logits, counts)
        else:
            calibrated = self._rows(logits, counts, *_parameters(layer))
        # What comes after the layer expects its precision.
        return calibrated.to(logits.dtype)

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
        if self.method == 'fractal':
            if self._dimension is None:
                raise ValueError(
                    "method='fractal' knows no places of objects: the hook has to run "
                    'in a runner, or be given `dimension` by `attach`'
                )
            return fractal_calibration(
                logits, counts, self._dimension, self.strength, self.space_exponent
            )
        if weight is None:
            raise ValueError(
                "method='tau_normalization' needs a linear classification layer with a "
                '`weight`; use another method for this head'
            )
        num = counts.numel()
        rest = logits[..., num:]
        own = tau_normalization(
            logits[..., :num],
            weight[:num],
            None if bias is None else bias[:num],
            self.strength,
        )
        return torch.cat([own, rest.to(own.dtype)], dim=-1)


def _parameters(layer: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    return getattr(layer, 'weight', None), getattr(layer, 'bias', None)
