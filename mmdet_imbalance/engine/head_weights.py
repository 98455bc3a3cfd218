"""Weights of a re-trained head: which come from the checkpoint, and their norms.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
ICLR 2020, arXiv 1910.09217, sections 4.1 (cRT) and 4.3 (tau-normalisation).

Shapes: C foreground classes, A anchors of a place (1 in box heads), D inputs of the
last layer (times the size of its kernel).
Deviations: a detector has a background class, which the paper has not. Its weights
stay as they are, and the foreground's norms keep their geometric mean, so that tau
moves scores among classes and not between objects and background. In a dense head the
weights of a class are those of all its anchors together: they share one factor.
"""

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmdet_imbalance.core.calibration import tau_scale
from mmdet_imbalance.engine.hooks.calibration_hook import LAYERS

FROZEN_PREFIXES = ('backbone.', 'neck.', 'rpn_head.')


@dataclass(frozen=True)
class LastLayer:
    """The layer of a head whose outputs are the class logits.

    Attributes:
        prefix: of its parameters in the detector, with the dot.
        module: the layer.
        num_classes: C.
        num_anchors: A.
    """

    prefix: str
    module: nn.Module
    num_classes: int
    num_anchors: int


def last_layer(model: nn.Module) -> LastLayer:
    """Find the classification layer of a Faster R-CNN or of a single-stage detector.

    Raises:
        ValueError: none has one of the names of the host.
    """
    where = 'roi_head.bbox_head' if hasattr(model, 'roi_head') else 'bbox_head'
    head = model.get_submodule(where)
    for name in LAYERS:
        module = getattr(head, name, None)
        if isinstance(module, nn.Module):
            anchors = getattr(head, 'num_base_priors', 1)
            return LastLayer(f'{where}.{name}.', module, head.num_classes, anchors)
    raise ValueError(
        f'{type(head).__name__} has no layer named {" or ".join(LAYERS)}, so its '
        'classifier cannot be told from the rest: take --init head or fresh, without '
        '--classifier-only and --tau'
    )


def check_frozen(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Refuse a checkpoint whose frozen parts are not those of the model.

    Raises:
        ValueError: names or shapes differ.
    """

    def shapes(values: dict) -> dict:
        return {
            name: tuple(value.shape)
            for name, value in values.items()
            if name.startswith(FROZEN_PREFIXES)
        }

    ours, theirs = shapes(model.state_dict()), shapes(state)
    wrong = sorted(
        name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)
    )
    if wrong:
        name = wrong[0]
        raise ValueError(
            f'the checkpoint is of another architecture: {len(wrong)} weights of '
            f'backbone, neck and RPN differ, the first is {name} (config: '
            f'{ours.get(name, "absent")}, checkpoint: {theirs.get(name, "absent")})'
        )


def initialise(model: nn.Module, state: dict[str, Tensor], init: str) -> list[str]:
    """Copy a checkpoint into the model: all that is frozen, and of the head what fits.

    State of a loss is not copied: it belongs to a training, not to a detector.

    Args:
        model: with freshly initialised weights.
        state: of the checkpoint.
        init: 'head' all that fits, 'crt' all but the last classification layer,
            'fresh' nothing of the head.

    Returns:
        Names of the head's parameters that stayed fresh.
    """
    check_frozen(model, state)
    classifier = last_layer(model).prefix if init == 'crt' else None
    own = model.state_dict()
    chosen, fresh = {}, []
    for name, value in own.items():
        if name.startswith(FROZEN_PREFIXES):
            chosen[name] = state[name]
        elif '.loss_' in name:
            continue
        elif (
            init == 'fresh'
            or (classifier is not None and name.startswith(classifier))
            or name not in state
            or state[name].shape != value.shape
        ):
            fresh.append(name)
        else:
            chosen[name] = state[name]
    model.load_state_dict(chosen, strict=False)
    return fresh


def tau_normalised(
    weight: Tensor, num_classes: int, tau: float, num_anchors: int = 1
) -> Tensor:
    """Weights of the last layer with norms brought closer together.

    w_c <- w_c * (m / |w_c|)**tau with m the geometric mean of the foreground's norms.

    Args:
        weight: rows of the classes, shape (A * C, ...) or (A * (C + 1), ...): anchor by
            anchor, background last.
        num_classes: C.
        tau: 0 changes nothing, 1 makes all norms equal.
        num_anchors: A.
    """
    wanted = [num_anchors * rows for rows in (num_classes, num_classes + 1)]
    if len(weight) not in wanted:
        raise ValueError(
            f'`weight` must have {wanted[0]} or {wanted[1]} rows, got '
            f'{tuple(weight.shape)}: the last layer is no linear classifier'
        )
    rows = weight.reshape(num_anchors, len(weight) // num_anchors, -1)
    factor = tau_scale(rows[:, :num_classes].norm(dim=(0, 2)), tau)
    factor = torch.cat([factor, factor.new_ones(rows.size(1) - num_classes)])
    return (rows * factor[:, None]).reshape(weight.shape)


class StartFrom(Hook):
    """Puts the weights in place once the host has initialised the model.

    Args:
        state: of the checkpoint.
        init: see `initialise`.
        tau: exponent of tau-normalisation; None leaves the last layer alone.
    """

    priority = 'HIGHEST'

    def __init__(self, state: dict[str, Tensor], init: str, tau: float | None) -> None:
        self.state, self.init, self.tau = state, init, tau
        self.metrics: dict[str, float] = {}
        self._done = False

    def before_train(self, runner: Any) -> None:
        """Copy; the host initialises the model after `before_run`, before this."""
        self._start(runner)

    def before_val(self, runner: Any) -> None:
        """Copy where no training came before."""
        self._start(runner)

    def _start(self, runner: Any) -> None:
        if self._done:
            return
        self._done = True
        fresh = initialise(runner.model, self.state, self.init)
        runner.logger.info(f'fresh weights: {", ".join(fresh) or "none"}')
        if self.tau is None:
            return
        layer = last_layer(runner.model)
        if fresh or not isinstance(layer.module, nn.Linear | nn.Conv2d):
            raise ValueError(
                '--tau normalises a trained linear classifier, but '
                f'{", ".join(fresh) or type(layer.module).__name__} of this config '
                'does not come from the checkpoint'
            )
        weight = layer.module.weight
        weight.data = tau_normalised(
            weight.data, layer.num_classes, self.tau, layer.num_anchors
        )

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Keep the figures."""
        self.metrics = dict(metrics or {})
