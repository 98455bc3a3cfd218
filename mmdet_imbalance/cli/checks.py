"""Checks of a run that need the built model and datasets, before the first step."""

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmdet_imbalance.cli.errors import ToolError

#: Parts of a detector that count something else than the classes of the dataset.
NOT_CLASSES = ('rpn_head', 'semantic_head', 'backbone')


class FirstStep(Hook):
    """Remembers whether a step was completed."""

    def __init__(self) -> None:
        self.done = False

    def _after_iter(self, *args: Any, **kwargs: Any) -> None:
        self.done = True


class ClassCountCheck(Hook):
    """Stops a run whose model and datasets do not count the same classes.

    The host's own check comes with the first epoch, after weights were downloaded and
    statistics counted, and knows nothing of validation datasets in another order.
    """

    def before_run(self, runner: Runner) -> None:
        """Check whatever loops the run will use; the host builds them just before."""
        datasets = {
            phase: loop.dataloader.dataset
            for phase in ('train', 'val', 'test')
            # Loops that this run does not use are still plain dicts.
            if hasattr(loop := getattr(runner, f'_{phase}_loop'), 'dataloader')
        }
        for phase, dataset in datasets.items():
            check_not_empty(dataset, phase)
            check_class_count(runner.model, class_names(dataset), phase)
        if 'train' in datasets and 'val' in datasets:
            check_same_classes(datasets['train'], datasets['val'])


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Classes of a dataset, None where its metainfo names none."""
    metainfo = getattr(dataset, 'metainfo', None) or {}
    if isinstance(metainfo, list):
        # A concatenation that ignores a key keeps the metainfo of every part.
        metainfo = metainfo[0]
    if 'stuff_classes' in metainfo:
        # Panoptic datasets list regions too, which no box head predicts.
        return None
    classes = metainfo.get('classes')
    if isinstance(classes, str):
        raise ToolError(
            f'`classes` in the metainfo of {type(dataset).__name__} is the text '
            f'{classes!r}; a single class needs a comma: classes=({classes!r},)'
        )
    return None if classes is None else tuple(classes)


def check_not_empty(dataset: Any, phase: str) -> None:
    """Refuse a dataset without images."""
    if len(dataset) == 0:
        raise ToolError(
            f'the {phase} dataset ({type(dataset).__name__}) has no images: either '
            '`filter_cfg` dropped them all, or no name in its `metainfo.classes` '
            f'{_shortened(class_names(dataset) or ())} is in the annotation file'
        )


def check_class_count(
    model: nn.Module, classes: tuple[str, ...] | None, phase: str
) -> None:
    """Refuse a head that has another number of classes than the dataset."""
    if classes is None:
        return
    for name, count in class_counts(model):
        if count != len(classes):
            raise ToolError(
                f'`{name}.num_classes` is {count}, but the {phase} dataset has '
                f'{len(classes)} classes {_shortened(classes)}: set '
                f'num_classes={len(classes)}, or `metainfo.classes` of the dataset'
            )


def class_counts(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Name and `num_classes` of every module that predicts the dataset's classes."""
    for name, module in model.named_modules():
        count = getattr(module, 'num_classes', None)
        if isinstance(count, int) and not set(NOT_CLASSES) & set(name.split('.')):
            yield f'model.{name.removeprefix("module.")}', count


def check_same_classes(train: Any, val: Any) -> None:
    """Refuse a validation dataset whose classes have another order or other names."""
    trained, tested = class_names(train), class_names(val)
    if trained is None or tested is None or trained == tested:
        return
    if len(trained) != len(tested):
        raise ToolError(
            f'the train dataset has {len(trained)} classes, the val dataset '
            f'{len(tested)}: give both the same `metainfo.classes`'
        )
    index, first, second = next(
        (i, a, b)
        for i, (a, b) in enumerate(zip(trained, tested, strict=True))
        if a != b
    )
    raise ToolError(
        f'class {index} is {first!r} in the train dataset and {second!r} in the val '
        'dataset: give both the same `metainfo.classes`, in the same order'
    )


def _shortened(names: tuple[str, ...], limit: int = 3) -> str:
    shown = ', '.join(names[:limit])
    return f'({shown}, …)' if len(names) > limit else f'({shown})'
