"""Class counts of models and datasets are compared before the first step."""

from types import SimpleNamespace

import pytest

from mmdet_imbalance.cli import ToolError
from mmdet_imbalance.cli.checks import (
    check_class_count,
    check_not_empty,
    check_same_classes,
    class_counts,
    class_names,
)
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing.detectors import small_detector_cfg

LOSS = {'type': 'CrossEntropyLoss', 'use_sigmoid': False}


def dataset(*classes: str, **metainfo) -> SimpleNamespace:
    return SimpleNamespace(metainfo={'classes': classes, **metainfo})


@pytest.mark.parametrize('kind', ['faster_rcnn', 'cascade_rcnn'])
def test_every_box_head_counts_and_the_proposal_head_does_not(kind):
    model = MODELS.build(small_detector_cfg(kind, dict(LOSS), num_classes=3))
    heads = 3 if kind == 'cascade_rcnn' else 1
    counts = dict(class_counts(model))
    assert set(counts.values()) == {3}
    assert len([name for name in counts if name.count('loss') == 0]) == heads
    check_class_count(model, ('a', 'b', 'c'), 'train')
    check_class_count(model, None, 'train')
    with pytest.raises(ToolError, match='is 3, but the val dataset has 2 classes'):
        check_class_count(model, ('a', 'b'), 'val')


def test_names_are_none_where_nothing_is_claimed():
    assert class_names(SimpleNamespace()) is None
    assert class_names(SimpleNamespace(metainfo={})) is None
    assert class_names(dataset('a', stuff_classes=('sky',))) is None
    concatenated = SimpleNamespace(metainfo=[{'classes': ['a']}, {'classes': ['a']}])
    assert class_names(concatenated) == ('a',)


def test_single_class_without_a_comma_is_refused():
    with pytest.raises(ToolError, match=r"classes=\('fish',\)"):
        class_names(SimpleNamespace(metainfo={'classes': 'fish'}))


def test_datasets_must_agree_in_number_and_order():
    check_same_classes(dataset('a', 'b'), dataset('a', 'b'))
    with pytest.raises(ToolError, match='2 classes, the val dataset 1'):
        check_same_classes(dataset('a', 'b'), dataset('a'))
    with pytest.raises(ToolError, match="class 1 is 'b' in the train dataset and 'c'"):
        check_same_classes(dataset('a', 'b'), dataset('a', 'c'))


def test_dataset_without_images_is_refused():
    class Empty(list):
        metainfo = {'classes': ('a', 'b', 'c', 'd')}  # noqa: RUF012

    with pytest.raises(
        ToolError, match=r'val dataset \(Empty\) has no images.*a, b, c, …'
    ):
        check_not_empty(Empty(), 'val')
    check_not_empty([1], 'val')
