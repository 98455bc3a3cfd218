"""From a config to the config of the re-training of its head on a frozen detector.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
ICLR 2020, arXiv 1910.09217, section 4.1 (cRT).

Deviations: none.
"""

import copy
from collections.abc import Iterator
from typing import Any

from mmdet.models.dense_heads.anchor_head import AnchorHead
from mmdet.models.detectors import SingleStageDetector
from mmengine.config import Config
from mmengine.registry import MODELS

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


def is_dense(model: dict) -> bool:
    """Whether a model's config is that of a single-stage detector with anchors.

    A detector with ways of its own to compute losses, predictions or features is none:
    the frozen one has those of the host's `SingleStageDetector`.
    """
    detector = _class_of(model)
    return (
        detector is not None
        and issubclass(detector, SingleStageDetector)
        and all(
            getattr(detector, name) is getattr(SingleStageDetector, name)
            for name in ('loss', 'predict', 'extract_feat')
        )
        and issubclass(_class_of(model.get('bbox_head')) or object, AnchorHead)
    )


def _class_of(config: dict | None) -> type | None:
    kind = (config or {}).get('type')
    if kind is None or isinstance(kind, type):
        return kind
    with MODELS.switch_scope_and_registry(None) as registry:
        return registry.get(kind)


def check_detector(cfg: Config) -> None:
    """Refuse what has neither a box head behind proposals nor a dense one with anchors.

    Raises:
        ValueError: another detector than Faster R-CNN or a single-stage one.
    """
    kind = str(cfg.model.get('type'))
    if kind.split('.')[-1] != 'FasterRCNN' and not is_dense(cfg.model):
        raise ValueError(
            f'{cfg.filename}: the model is {kind}, only the head of a FasterRCNN and '
            'of single-stage detectors with anchors, such as RetinaNet, can be '
            're-trained: cascades and masks feed one stage into the next'
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
    stacker = dict(type='mmdet_imbalance.FeatureStacker')
    if is_dense(cfg.model):
        kind = 'FrozenFeaturesSingleStage'
        pixels = cfg.model.get('data_preprocessor') or {}
        stacker.update(
            padding='constant', pad_size_divisor=pixels.get('pad_size_divisor', 1)
        )
    else:
        kind = 'FrozenFeaturesFasterRCNN'
    cfg.model.type = f'mmdet_imbalance.{kind}'
    cfg.model.classifier_only = classifier_only
    cfg.model.data_preprocessor = stacker
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
    # The host formats a config five times a run, which takes as long as a quarter of an
    # epoch does here; without, what it writes down is Python that is less neat.
    return Config(dict(cfg.items()), filename=cfg.filename, format_python_code=False)


def _takes_false(backbone: dict) -> bool:
    # Ours takes ImageNet's weights where nothing is said.
    return str(backbone.get('type')).endswith('EfficientNetLite')
