import copy
import json
import pickle

import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.datasets.label_index import label_index
from mmdet_imbalance.datasets.lvis import LVISMultiLabelDataset
from mmdet_imbalance.datasets.transforms.pack_multi_label import (
    PackMultiLabelDetInputs,
)

CATEGORIES = [
    {'id': 9, 'name': 'dog', 'synset': 'dog.n.01', 'frequency': 'f'},
    {'id': 2, 'name': 'toy', 'synset': 'plaything.n.01', 'frequency': 'c'},
    {'id': 5, 'name': 'animal', 'synset': 'animal.n.01', 'frequency': 'r'},
    {'id': 7, 'name': 'car', 'synset': 'car.n.01', 'frequency': 'r'},
]
TREE = [
    {'LabelName': 'animal.n.01', 'Subcategory': [{'LabelName': 'dog.n.01'}]},
    {'LabelName': 'toy'},
    {'LabelName': 'car.n.01'},
]
# Labels by rising id: toy 0, animal 1, car 2, dog 3.


def annotation(number, image, category, bbox, **more):
    return {
        'id': number,
        'image_id': image,
        'category_id': category,
        'bbox': bbox,
        'area': bbox[2] * bbox[3],
        'segmentation': [[0, 0, bbox[2], 0, bbox[2], bbox[3]]],
        **more,
    }


def content():
    url = 'http://example.org/data'
    return {
        'images': [
            {
                'id': 31,
                'height': 40,
                'width': 60,
                'coco_url': f'{url}/train2017/000000000031.jpg',
                'neg_category_ids': [5],
                'not_exhaustive_category_ids': [7],
            },
            {'id': 4, 'height': 50, 'width': 50, 'file_name': 'COCO_val2014_0004.jpg'},
            {'id': 6, 'height': 8, 'width': 9, 'file_name': 'sub/6.jpg'},
        ],
        'annotations': [
            annotation(1, 4, 9, [1, 1, 10, 10]),
            # A toy car: two annotations of one object, boxes nearly equal.
            annotation(2, 31, 7, [10, 10, 20, 20]),
            annotation(3, 31, 2, [10, 10, 20, 20.2]),
            # A dog that is annotated as an animal too.
            annotation(4, 4, 5, [20, 20, 10, 10]),
            annotation(5, 4, 9, [20, 20, 10, 10]),
            annotation(6, 4, 2, [45, 45, 20, 20], iscrowd=1),
            annotation(7, 4, 2, [3, 3, 0, 5]),
        ],
        'categories': CATEGORIES,
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'lvis.json').write_text(json.dumps(content()))
    (tmp_path / 'tree.json').write_text(json.dumps(TREE))
    return tmp_path


def build(folder, **kwargs):
    kwargs = {
        'ann_file': 'lvis.json',
        'data_root': str(folder),
        'hierarchy_file': 'tree.json',
        **kwargs,
    }
    return LVISMultiLabelDataset(**kwargs)


def rows(record):
    return [(i['bbox_label'], i['bbox']) for i in record['instances']]


def test_training_records_join_the_annotations_of_an_object(folder):
    dataset = build(folder)
    assert dataset.metainfo['classes'] == ('toy', 'animal', 'car', 'dog')
    first, second, third = (dataset.get_data_info(i) for i in range(3))
    table = first['label_sets']
    ((label, box),) = rows(first)
    assert sorted(table.sets[label - 4]) == [0, 2]
    assert box == [10, 10, 30, 30] or box == pytest.approx([10, 10, 30, 30.2])
    assert rows(second) == [
        (3, [1, 1, 11, 11]),
        (3, [20, 20, 30, 30]),
        (0, [45, 45, 50, 50]),
    ]
    assert [i['ignore_flag'] for i in second['instances']] == [0, 0, 1]
    assert third['instances'] == []
    assert dataset.report == {
        'objects of other classes': 0,
        'boxes clipped': 1,
        'boxes without area': 1,
        'labels joined to sets': 1,
        'labels that others imply': 1,
    }


def test_test_mode_keeps_the_rows_as_annotated(folder):
    dataset = build(folder, test_mode=True)
    second = dataset.get_data_info(1)
    assert [label for label, _ in rows(second)] == [3, 1, 3, 0, 0]
    assert rows(second)[-1] == (0, [3, 3, 3, 8])
    assert 'label_sets' not in second


def test_federated_fields_are_labels_and_stay_as_ids(folder):
    dataset = build(folder)
    first, second = dataset.get_data_info(0), dataset.get_data_info(1)
    assert first['verified_pos'] == [0, 2]
    assert first['verified_neg'] == [1]
    assert first['not_exhaustive'] == [2]
    assert first['neg_category_ids'] == [5]
    assert first['not_exhaustive_category_ids'] == [7]
    assert second['verified_neg'] == second['not_exhaustive'] == []


def test_file_names_of_both_versions(folder):
    dataset = build(folder, data_prefix=dict(img='images'))
    paths = [dataset.get_data_info(i)['img_path'] for i in range(3)]
    assert [p.removeprefix(str(folder) + '/') for p in paths] == [
        'images/train2017/000000000031.jpg',
        'images/0004.jpg',
        'images/sub/6.jpg',
    ]


def test_ancestors_come_by_synset_or_name_and_groups_from_the_file(folder):
    dataset = build(folder)
    want = np.eye(4, dtype=bool)
    want[3, 1] = True
    np.testing.assert_array_equal(np.asarray(dataset.metainfo['ancestor_matrix']), want)
    wordnet = build(folder, hierarchy_file='wordnet', metainfo=dict(classes=['dog']))
    assert wordnet.metainfo['classes'] == ('dog',)
    stats = class_stats_of(dataset, use_cache=False)
    assert stats.freq_group.tolist() == ['c', 'r', 'r', 'f']
    assert stats.instance_count.tolist() == [1, 0, 1, 2]
    assert stats.pair_count()[0, 2] == 1


def test_label_index_equals_the_records(folder):
    dataset = build(folder)
    index = label_index(dataset)
    assert index.image_ptr.tolist() == [0, 2, 5, 5]
    assert sorted(index.labels[:2].tolist()) == [0, 2]
    assert index.labels[2:].tolist() == [3, 3, 0]
    assert index.ignored.tolist() == [False] * 4 + [True]
    assert index.objects.tolist() == [0, 0, 0, 1, 2]
    assert dataset.get_cat_ids(0) == [0, 2]


def test_chosen_classes_and_filters(folder):
    dataset = build(
        folder,
        hierarchy_file=None,
        metainfo=dict(classes=('car', 'dog')),
        filter_cfg=dict(filter_empty_gt=True, min_size=10),
    )
    assert len(dataset) == 2
    assert rows(dataset.get_data_info(0)) == [(0, [10, 10, 30, 30])]
    assert dataset.get_data_info(0)['verified_neg'] == []
    with pytest.raises(ValueError, match=r"\['cat'\]"):
        build(folder, metainfo=dict(classes=('cat',)))
    with pytest.raises(ValueError, match='filter_cfg'):
        build(folder, filter_cfg=dict(filter_empty=True))


def test_label_sets_survive_another_process_and_are_packed(folder):
    dataset = build(folder)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(dataset)))
    record = twin.get_data_info(0)
    results = {
        'img': np.zeros((40, 60, 3), np.uint8),
        'label_sets': record['label_sets'],
        'gt_bboxes': np.array([i['bbox'] for i in record['instances']], np.float32),
        'gt_bboxes_labels': np.array([i['bbox_label'] for i in record['instances']]),
        'gt_ignore_flags': np.array([False]),
        **{k: record[k] for k in ('verified_pos', 'verified_neg', 'not_exhaustive')},
    }
    packed = PackMultiLabelDetInputs(meta_keys=())(results)['data_samples']
    assert packed.gt_instances.multi_labels.tolist() == [[True, False, True, False]]
    assert packed.verified_neg == [1]


def test_masks_on_demand(folder):
    assert 'mask' not in build(folder).get_data_info(1)['instances'][0]
    instance = build(folder, load_masks=True).get_data_info(1)['instances'][0]
    assert instance['mask'] == [[0, 0, 10, 0, 10, 10]]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.pop('images'), 'images'),
        (lambda c: c['annotations'][2].pop('bbox'), r'annotations\[2\]|bbox'),
        (
            lambda c: c['annotations'][0].update(image_id=77),
            'annotation 0 has image_id',
        ),
        (lambda c: c['annotations'][0].update(category_id=77), 'category_id 77'),
        (lambda c: c['images'][1].update(id=31), 'image id 31 stands there twice'),
        (lambda c: c['categories'][0].update(name='toy'), 'same name'),
    ],
)
def test_broken_files_are_named(folder, change, message):
    broken = copy.deepcopy(content())
    change(broken)
    (folder / 'lvis.json').write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=message) as error:
        build(folder)
    assert 'lvis.json' in str(error.value)


def test_truncated_and_missing_files_are_named(folder):
    file = folder / 'lvis.json'
    file.write_text(file.read_text()[:-30])
    with pytest.raises(ValueError, match=r'lvis\.json'):
        build(folder)
    with pytest.raises(FileNotFoundError, match=r'no\.json'):
        build(folder, ann_file='no.json')


def test_arguments_of_the_host_take_effect_or_raise(folder):
    assert 'text' not in build(folder).get_data_info(0)
    named = build(folder, return_classes=True)
    assert named.get_data_info(0)['text'] == named.metainfo['classes']
    with pytest.raises(ValueError, match=r'`backend_args`.*petrel'):
        build(folder, backend_args=dict(backend='petrel'))


def test_real_files_equal_plain_counting(shared_data):
    init_default_scope('mmdet')
    folder = shared_data / 'hdbpmn'
    dataset = DATASETS.build(
        dict(
            type='mmdet_imbalance.LVISMultiLabelDataset',
            ann_file=str(folder / 'train.json'),
            hierarchy_file=str(folder / 'hierarchy.json'),
            test_mode=True,
        )
    )
    raw = json.loads((folder / 'train.json').read_text())
    assert len(dataset) == len(raw['images'])
    stats = class_stats_of(dataset, use_cache=False)
    categories = sorted(raw['categories'], key=lambda c: c['id'])
    assert stats.instance_count.tolist() == [c['instance_count'] for c in categories]
    assert stats.img_count.tolist() == [c['image_count'] for c in categories]
    assert stats.freq_group.tolist() == [c['frequency'] for c in categories]


@pytest.mark.parametrize('crowd', ['dog', 'toy'])
def test_a_crowd_is_no_label_of_the_object_in_its_place(folder, crowd):
    ids = {'dog': 9, 'toy': 2}
    found = content()
    found['annotations'] = [
        annotation(k, 4, ids[name], [10, 10, 20, 20], iscrowd=int(name == crowd))
        for k, name in enumerate(ids)
    ]
    (folder / 'lvis.json').write_text(json.dumps(found))
    record = build(folder).get_data_info(1)
    got = {(i['bbox_label'], i['ignore_flag']) for i in record['instances']}
    assert got == {(3, int(crowd == 'dog')), (0, int(crowd == 'toy'))}
