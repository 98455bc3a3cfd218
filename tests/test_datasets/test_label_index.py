"""The label index of real host datasets and of their wrappers."""

from typing import ClassVar

import numpy as np
import pytest
from mmdet.datasets import CocoDataset, MultiImageMixDataset
from mmdet.datasets import ConcatDataset as HostConcatDataset
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
)
from torch.utils.data import Subset

from mmdet_imbalance.datasets.label_index import label_index
from tests.helpers.coco_files import CLASSES, coco, write_coco

#: Boxes of five images: (category, crowd).
IMAGES = [[('cat', 0), ('dog', 0)], [('dog', 0)], [], [('cow', 0), ('cat', 1)], []]


@pytest.fixture
def ann_file(tmp_path):
    return write_coco(tmp_path / 'train.json', IMAGES)


def by_asking(dataset):
    """Labels and flags of every image through the interface of the host."""
    return [
        [
            (instance['bbox_label'], bool(instance['ignore_flag']))
            for instance in dataset.get_data_info(i)['instances']
        ]
        for i in range(len(dataset))
    ]


def by_index(dataset):
    index = label_index(dataset)
    return [
        list(zip(index.labels[a:b].tolist(), index.ignored[a:b].tolist(), strict=True))
        for a, b in zip(index.image_ptr[:-1], index.image_ptr[1:], strict=True)
    ]


WRAPPERS = {
    'plain': lambda d: d(),
    'unserialised': lambda d: d(serialize_data=False),
    'lazy': lambda d: d(lazy_init=True),
    'filtered': lambda d: d(filter_cfg=dict(filter_empty_gt=True)),
    'first three': lambda d: d(indices=3),
    'chosen': lambda d: d(indices=[3, 0]),
    'fewer classes': lambda d: d(metainfo=dict(classes=('cow', 'cat'))),
    'concat': lambda d: ConcatDataset([d(), d(indices=[3])]),
    'host concat': lambda d: HostConcatDataset([d(), d(indices=[3])]),
    'repeat': lambda d: RepeatDataset(d(), times=3),
    'balanced': lambda d: ClassBalancedDataset(d(), oversample_thr=0.9),
    'mix': lambda d: MultiImageMixDataset(d(), pipeline=[]),
}


@pytest.mark.parametrize('name', WRAPPERS)
def test_index_is_what_the_host_gives(ann_file, name):
    dataset = WRAPPERS[name](lambda **kw: coco(ann_file, **kw))
    expected = by_asking(dataset)
    assert by_index(dataset) == expected
    assert any(expected)


def test_wrappers_nest(ann_file):
    inner = RepeatDataset(coco(ann_file), times=2)
    joined = HostConcatDataset(
        [dict(type='RepeatDataset', dataset=coco_config(ann_file), times=2)]
    )
    assert by_index(joined) == by_asking(inner)
    subset = Subset(joined, [8, 0, -1])
    expected = by_asking(inner)
    assert by_index(subset) == [expected[8], expected[0], expected[-1]]


def coco_config(ann_file):
    return dict(
        type='mmdet.CocoDataset',
        ann_file=str(ann_file),
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
    )


def test_balanced_wrapper_repeats_the_rare_image(ann_file):
    dataset = ClassBalancedDataset(coco(ann_file), oversample_thr=0.9)
    assert len(label_index(dataset)) == len(dataset) > 5


def test_joined_datasets_of_other_classes_are_refused(ann_file):
    other = coco(ann_file, metainfo=dict(classes=('dog', 'cat', 'cow')))
    joined = HostConcatDataset([coco(ann_file), other])
    with pytest.raises(ValueError, match='dataset 1 of a ConcatDataset has other'):
        label_index(joined)


class Loose(BaseDataset):
    """A dataset whose records a test writes."""

    METAINFO: ClassVar = dict(classes=('a', 'b'))
    records = ()

    def load_data_list(self):
        return list(self.records)


@pytest.mark.parametrize(
    ('instances', 'message'),
    [
        ([dict(bbox_label=2)], 'image 1 bears label 2, but the dataset has 2'),
        ([dict(bbox_label=-1)], r'image 1 \(b\.jpg\).*got -1'),
        ([dict(bbox=[0, 0, 1, 1])], 'got None'),
        ([dict(bbox_label=0.5)], 'got 0.5'),
        (None, 'no `instances`'),
    ],
)
@pytest.mark.parametrize('serialize_data', [True, False])
def test_records_that_cannot_be_are_refused(instances, message, serialize_data):
    bad = {'img_path': 'b.jpg'}
    if instances is not None:
        bad['instances'] = instances
    good = {'img_path': 'a.jpg', 'instances': [dict(bbox_label=np.int64(1))]}
    kind = type('Bad', (Loose,), dict(records=(good, bad)))
    with pytest.raises(ValueError, match=message):
        label_index(kind(serialize_data=serialize_data))


@pytest.mark.parametrize('flag', ['ignore_flag', 'is_group_of', 'is_group_ofs'])
def test_rows_that_are_no_object_are_marked(flag):
    """The host's Open Images records mark groups by a key of their own."""
    box = dict(bbox_label=1, ignore_flag=0, is_group_of=False)
    rows = [dict(box, bbox_label=0), {**box, flag: True}, {**box, flag: False}]
    kind = type('Groups', (Loose,), dict(records=({'instances': rows},)))
    index = label_index(kind())
    assert index.labels.tolist() == [0, 1, 1]
    assert index.ignored.tolist() == [False, True, False]


def test_records_made_on_demand_are_asked_for():
    class OnDemand(Loose):
        records = ({'instances': []},)

        def get_data_info(self, idx):
            return {'instances': [dict(bbox_label=1)]}

    assert label_index(OnDemand(serialize_data=False)).labels.tolist() == [1]


def test_something_else_is_refused():
    with pytest.raises(TypeError, match='cannot read labels of a list'):
        label_index([1, 2])


def test_real_annotation_gives_its_own_labels(shared_data):
    folder = shared_data / 'aquarium'
    dataset = CocoDataset(
        ann_file=str(folder / 'train.json'),
        data_prefix=dict(img=str(folder)),
        metainfo=dict(classes=('fish', 'shark', 'stingray')),
    )
    assert len(label_index(dataset).labels) > 1000
    assert by_index(dataset) == by_asking(dataset)
