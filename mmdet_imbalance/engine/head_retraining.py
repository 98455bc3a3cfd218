"""From a config to the re-training of its box head on a frozen detector.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
ICLR 2020, arXiv 1910.09217, sections 4.1 (cRT) and 4.3 (tau-normalisation).

Shapes: C foreground classes, D inputs of the last layer.
Deviations: a detector has a background class, which the paper has not. Its weights
stay as they are, and the foreground's keep their mean norm, so that tau moves scores
among classes and not between objects and background.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import Tensor, nn

FROZEN_PREFIXES = ('backbone.', 'neck.', 'rpn_head.')
LAST_LAYER = 'roi_head.bbox_head.fc_cls.'
INITS = ('head', 'crt', 'fresh')
#: Transforms whose result is not one of two images.
# fmt: off
UNCACHEABLE = frozenset((
    'Albu', 'AutoAugment', 'AutoContrast', 'Brightness', 'CachedMixUp', 'CachedMosaic',
    'Color', 'ColorTransform', 'Contrast', 'CopyPaste', 'CutOut', 'Equalize', 'Expand',
    'GeomTransform', 'Invert', 'MinIoURandomCrop', 'MixUp', 'Mosaic', 'MultiBranch',
    'PhotoMetricDistortion', 'Posterize', 'Rotate', 'Sharpness', 'ShearX', 'ShearY',
    'Solarize', 'SolarizeAdd', 'TranslateX', 'TranslateY', 'YOLOXHSVRandomAug',
))
# fmt: on


# --- configs --------------------------------------------------------------------------
def check_detector(cfg: Config) -> None:
    """Refuse what has no box head behind frozen proposals.

    Raises:
        ValueError: any other detector than Faster R-CNN.
    """
    kind = str(cfg.model.get('type'))
    if kind.split('.')[-1] != 'FasterRCNN':
        raise ValueError(
            f'{cfg.filename}: the model is {kind}, only the box head of a FasterRCNN '
            'can be re-trained: a dense head such as that of RetinaNet has no '
            'proposals to freeze, and cascades and masks feed one stage into the next'
        )


def pipelines(dataset: Any) -> Iterator[list]:
    """Every pipeline in a dataset's config."""
    if isinstance(dataset, dict):
        for key, value in dataset.items():
            if key == 'pipeline':
                yield value
            else:
                yield from pipelines(value)
    elif isinstance(dataset, list | tuple):
        for child in dataset:
            yield from pipelines(child)


def _kind(transform: dict) -> str:
    return str(transform['type']).split('.')[-1]


def set_flips(dataset: dict, probability: float | None) -> dict:
    """Copy of a dataset's config whose flips have this probability.

    Args:
        dataset: config.
        probability: of a horizontal flip; None leaves that of the config.

    Raises:
        ValueError: a transform with more than two results.
    """
    dataset = copy.deepcopy(dataset)
    for transform in (t for pipeline in pipelines(dataset) for t in pipeline):
        kind = _kind(transform)
        if kind == 'RandomFlip':
            direction = transform.get('direction', 'horizontal')
            if direction != 'horizontal' or isinstance(transform.get('prob'), list):
                raise ValueError(
                    '`RandomFlip` of the training pipeline must be horizontal with '
                    f'one `prob`, got {dict(transform)}: features are cached as they '
                    'are and mirrored'
                )
            if probability is not None:
                transform['prob'] = probability
        elif kind.startswith('Random') or kind in UNCACHEABLE:
            raise ValueError(
                f'`{kind}` in the training pipeline changes an image each time, so its '
                'features cannot be cached: leave it out of `train_pipeline` for the '
                're-training'
            )
    return dataset


def has_flips(dataset: dict) -> bool:
    """Whether the pipeline mirrors images."""
    return any(
        _kind(t) == 'RandomFlip' and t.get('prob')
        for pipeline in pipelines(dataset)
        for t in pipeline
    )


def image_steps(dataset: dict) -> list:
    """The part of the pipelines that changes pixels, for the cache's key."""
    return [
        [t for t in p if not _kind(t).startswith(('LoadAnno', 'Pack', 'RandomFlip'))]
        for p in pipelines(dataset)
    ]


def use_cache(dataset: dict, cache: str) -> dict:
    """Copy of a dataset's config that reads cached features in place of images."""
    dataset = copy.deepcopy(dataset)
    for pipeline in pipelines(dataset):
        loads = [i for i, t in enumerate(pipeline) if _kind(t) == 'LoadImageFromFile']
        if len(loads) != 1:
            raise ValueError(
                'a pipeline must have one `LoadImageFromFile`, got '
                f'{[_kind(t) for t in pipeline]}'
            )
        pipeline[loads[0]] = dict(type='mmdet_imbalance.LoadImageShape', cache=cache)
        pipeline.append(dict(type='mmdet_imbalance.AttachCachedFeatures', cache=cache))
    return dataset


def scale_epochs(cfg: Config, epochs: int) -> None:
    """Run the schedules of learning rate and data sampler in `epochs` epochs.

    Steps counted in iterations stay as they are.
    """
    old = cfg.train_cfg.get('max_epochs')
    if old is None:
        raise ValueError('`train_cfg.max_epochs` is absent: --epochs needs epochs')

    def scaled(value):
        return max(round(value * epochs / old), 1) if value else value

    for scheduler in cfg.get('param_scheduler') or []:
        if scheduler.get('by_epoch', True):
            for key in ('begin', 'end', 'T_max', 'step_size'):
                if scheduler.get(key) is not None:
                    scheduler[key] = scaled(scheduler[key])
            if 'milestones' in scheduler:
                scheduler['milestones'] = [scaled(m) for m in scheduler['milestones']]
    sampler = cfg.train_dataloader.sampler
    if sampler.get('by_epoch', True):
        if 'schedule' in sampler:
            sampler['schedule'] = [
                (scaled(at), value) for at, value in sampler.schedule
            ]
        for key in ('begin', 'end'):
            if sampler.get(key) is not None:
                sampler[key] = scaled(sampler[key])
    cfg.train_cfg.max_epochs = epochs


def retraining_config(
    cfg: Config, train_cache: str, val_cache: str, classifier_only: bool
) -> Config:
    """The config of a run on cached features."""
    cfg = copy.deepcopy(cfg)
    cfg.model.type = 'mmdet_imbalance.FrozenFeaturesFasterRCNN'
    cfg.model.classifier_only = classifier_only
    cfg.model.data_preprocessor = dict(type='mmdet_imbalance.FeatureStacker')
    # The frozen parts come from the checkpoint: nothing to read or to download.
    cfg.model.backbone.init_cfg = False if _takes_false(cfg.model.backbone) else None
    for key, cache in (
        ('train_dataloader', train_cache),
        ('val_dataloader', val_cache),
        ('test_dataloader', val_cache),
    ):
        cfg[key].dataset = use_cache(cfg[key].dataset, cache)
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=-1, save_last=True, save_optimizer=False
    )
    return cfg


def _takes_false(backbone: dict) -> bool:
    # Ours takes ImageNet's weights where nothing is said.
    return str(backbone.get('type')).endswith('EfficientNetLite')


# --- weights --------------------------------------------------------------------------
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
    own = model.state_dict()
    chosen, fresh = {}, []
    for name, value in own.items():
        if name.startswith(FROZEN_PREFIXES):
            chosen[name] = state[name]
        elif '.loss_' in name:
            continue
        elif (
            init == 'fresh'
            or (init == 'crt' and name.startswith(LAST_LAYER))
            or name not in state
            or state[name].shape != value.shape
        ):
            fresh.append(name)
        else:
            chosen[name] = state[name]
    model.load_state_dict(chosen, strict=False)
    return fresh


def tau_normalised(weight: Tensor, num_classes: int, tau: float) -> Tensor:
    """Weights of the last layer with norms brought closer together.

    w_c <- w_c * (m / |w_c|)**tau with m the mean norm of the foreground classes.

    Args:
        weight: rows of the classes, shape (C, D) or (C + 1, D), background last.
        num_classes: C.
        tau: 0 changes nothing, 1 makes all norms equal. The paper uses 0.7 for
            ImageNet-LT (its appendix tunes it on validation data).
    """
    if len(weight) not in (num_classes, num_classes + 1):
        raise ValueError(
            f'`weight` must have {num_classes} or {num_classes + 1} rows, got '
            f'{tuple(weight.shape)}: the last layer is no linear classifier'
        )
    foreground = weight[:num_classes]
    norms = foreground.norm(dim=1, keepdim=True)
    factor = (norms.mean() / norms.clamp(min=torch.finfo(norms.dtype).tiny)) ** tau
    return torch.cat([foreground * factor, weight[num_classes:]])


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
        head = runner.model.roi_head.bbox_head
        if fresh or not isinstance(head.fc_cls, nn.Linear):
            raise ValueError(
                '--tau normalises a trained linear classifier, but '
                f'{", ".join(fresh) or type(head.fc_cls).__name__} of this config does '
                'not come from the checkpoint'
            )
        weight = head.fc_cls.weight
        weight.data = tau_normalised(weight.data, head.num_classes, self.tau)

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Keep the figures."""
        self.metrics = dict(metrics or {})
