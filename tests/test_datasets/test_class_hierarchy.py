"""A hierarchy beside host datasets changes the metainfo and nothing else."""

import copy
import json
import pickle

import numpy as np
import pytest
from mmdet.datasets import CocoDataset, ConcatDataset, MultiImageMixDataset
from mmdet.registry import DATASETS
from mmdet.visualization.palette import get_palette
from mmengine.dataset import BaseDataset, ClassBalancedDataset, Compose, RepeatDataset
from mmengine.dataset import ConcatDataset as EngineConcatDataset

from mmdet_imbalance.datasets.class_hierarchy import ClassHierarchyDataset
from mmdet_imbalance.datasets.relation_matrix import RelationMatrix
from tests.helpers.coco_files import CLASSES, coco, write_coco

IMAGES = [[('cat', 0), ('dog', 0)], [('dog', 0)], [('cow', 0)]]
#: cat < feline < animal, dog < animal; cow stands under two parents.
TREE = {
    'LabelName': 'thing',
    'Subcategory': [
        {
            'LabelName': 'animal',
            'Subcategory': [
                {'LabelName': 'feline', 'Subcategory': [{'LabelName': 'cat'}]},
                {'LabelName': 'dog'},
                {'LabelName': 'cow'},
            ],
        },
        {'LabelName': 'livestock', 'Subcategory': [{'LabelName': 'cow'}]},
    ],
}
INNER = ('animal', 'feline', 'livestock')


@pytest.fixture
def ann_file(tmp_path):
    return write_coco(tmp_path / 'train.json', IMAGES)


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / 'tree.json'
    path.write_text(json.dumps(TREE))
    return path


def test_classes_without_each_other_above_have_no_ancestors(ann_file, tree):
    metainfo = ClassHierarchyDataset(coco(ann_file), tree).metainfo
    assert metainfo['classes'] == CLASSES
    np.testing.assert_array_equal(metainfo['ancestor_matrix'], np.eye(3))


def test_inner_nodes_are_appended_behind_the_classes(ann_file, tree):
    dataset = ClassHierarchyDataset(coco(ann_file), tree, add_ancestor_classes=True)
    metainfo = dataset.metainfo
    assert metainfo['classes'] == (*CLASSES, *INNER)
    above = {
        name: {metainfo['classes'][j] for j in np.flatnonzero(row)} - {name}
        for name, row in zip(
            metainfo['classes'], metainfo['ancestor_matrix'], strict=True
        )
    }
    assert above == {
        'cat': {'feline', 'animal'},
        'dog': {'animal'},
        'cow': {'animal', 'livestock'},
        'animal': set(),
        'feline': {'animal'},
        'livestock': set(),
    }
    assert metainfo['RELATION_MATRIX'] is metainfo['ancestor_matrix']


def test_records_and_labels_are_those_of_the_wrapped_dataset(ann_file, tree):
    plain = coco(ann_file)
    dataset = ClassHierarchyDataset(plain, tree, add_ancestor_classes=True)
    assert len(dataset) == len(plain) == 3
    assert isinstance(dataset, BaseDataset)
    for i in range(3):
        assert dataset.get_data_info(i) == plain.get_data_info(i)
        assert dataset.get_cat_ids(i) == plain.get_cat_ids(i)
    assert dataset.ann_file == plain.ann_file
    assert dataset.label_index().labels.tolist() == [0, 1, 1, 2]
    with pytest.raises(AttributeError, match='no_such_thing'):
        dataset.no_such_thing  # noqa: B018


def test_palette_reaches_all_classes(ann_file, tree):
    metainfo = dict(classes=CLASSES, palette=[(1, 2, 3)] * 3)
    dataset = ClassHierarchyDataset(
        coco(ann_file, metainfo=metainfo), tree, add_ancestor_classes=True
    )
    palette = dataset.metainfo['palette']
    assert palette[:3] == [(1, 2, 3)] * 3
    assert len(get_palette(palette, 6)) == 6


def test_lazy_dataset_loads_nothing_until_it_is_used(ann_file, tree):
    config = dict(
        type='mmdet_imbalance.ClassHierarchyDataset',
        dataset=dict(
            type='mmdet.CocoDataset',
            ann_file=str(ann_file),
            data_prefix=dict(img=''),
            metainfo=dict(classes=CLASSES),
        ),
        hierarchy_file=str(tree),
        lazy_init=True,
    )
    dataset = DATASETS.build(config)
    assert not dataset.dataset._fully_initialized
    assert dataset.metainfo['classes'] == CLASSES
    assert not dataset.dataset._fully_initialized
    assert len(dataset) == 3
    assert dataset.dataset._fully_initialized


WRAPPERS = {
    'repeat': lambda d: RepeatDataset(d, times=2),
    'balanced': lambda d: ClassBalancedDataset(d, oversample_thr=0.5),
    'mix': lambda d: MultiImageMixDataset(d, pipeline=[]),
    'concat': lambda d: EngineConcatDataset([d, copy.copy(d)]),
    'host concat': lambda d: ConcatDataset([d, copy.copy(d)]),
}


@pytest.mark.parametrize('name', WRAPPERS)
@pytest.mark.parametrize('inside', [False, True])
def test_it_stands_inside_and_around_every_wrapper(ann_file, tree, name, inside):
    wrap = WRAPPERS[name]
    if inside:
        dataset = wrap(ClassHierarchyDataset(coco(ann_file), tree))
        expected = wrap(coco(ann_file))
    else:
        expected = wrap(coco(ann_file))
        dataset = ClassHierarchyDataset(wrap(coco(ann_file)), tree)
    assert isinstance(dataset.metainfo['ancestor_matrix'], RelationMatrix)
    assert len(dataset) == len(expected)
    records = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert records == [expected.get_data_info(i) for i in range(len(expected))]


def test_joining_other_hierarchies_is_seen(ann_file, tree, tmp_path):
    flat = tmp_path / 'flat.json'
    nodes = [{'LabelName': 'cat', 'Subcategory': [{'LabelName': 'dog'}]}]
    flat.write_text(json.dumps([*nodes, {'LabelName': 'cow'}]))
    one = ClassHierarchyDataset(coco(ann_file), tree)
    other = ClassHierarchyDataset(coco(ann_file), flat)
    with pytest.raises(ValueError, match='meta information of the 2-th dataset'):
        EngineConcatDataset([one, other])
    assert isinstance(ConcatDataset([one, other]).metainfo, list)


def test_wrapping_joined_datasets_of_different_metainfo_is_refused(ann_file, tree):
    joined = ConcatDataset(
        [coco(ann_file), coco(ann_file, metainfo=dict(classes=('cat',)))]
    )
    with pytest.raises(ValueError, match='wrap each part'):
        ClassHierarchyDataset(joined, tree)


def test_pipeline_is_shared_and_samples_are_retried(ann_file, tree):
    dataset = ClassHierarchyDataset(coco(ann_file, max_refetch=50), tree)
    refused = []

    def give_up_first(results):
        if results['img_id'] == 0:
            refused.append(0)
            return None
        return results

    dataset.pipeline = Compose([give_up_first])
    assert dataset.dataset.pipeline is dataset.pipeline
    assert dataset[0]['img_id'] in (1, 2)
    assert refused


def test_subset_keeps_the_hierarchy_and_leaves_the_original(ann_file, tree):
    dataset = ClassHierarchyDataset(coco(ann_file), tree, add_ancestor_classes=True)
    part = dataset.get_subset([2])
    assert (len(part), len(dataset)) == (1, 3)
    assert part.metainfo['classes'] == dataset.metainfo['classes']
    assert part.get_cat_ids(0) == [2]
    dataset.get_subset_([0, 1])
    assert len(dataset) == 2


def test_it_can_be_sent_to_a_worker(ann_file, tree):
    dataset = ClassHierarchyDataset(coco(ann_file), tree)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.get_data_info(1) == dataset.get_data_info(1)
    np.testing.assert_array_equal(
        again.metainfo['ancestor_matrix'], dataset.metainfo['ancestor_matrix']
    )


# --- names -------------------------------------------------------------------------


def test_names_are_mapped_both_ways(ann_file, tmp_path):
    tree = tmp_path / 'mids.json'
    node = {'LabelName': '/m/1', 'Subcategory': [{'LabelName': '/m/2'}]}
    others = [{'LabelName': 'dog'}, {'LabelName': 'cow'}, node]
    tree.write_text(json.dumps({'LabelName': '/m/0', 'Subcategory': others}))
    (tmp_path / 'names.csv').write_text('/m/2,cat\n/m/1,feline\n\n')
    for name_map in ({'cat': '/m/2', 'feline': '/m/1'}, tmp_path / 'names.csv'):
        dataset = ClassHierarchyDataset(
            coco(ann_file), tree, add_ancestor_classes=True, name_map=name_map
        )
        assert dataset.metainfo['classes'] == (*CLASSES, 'feline')
        assert dataset.metainfo['ancestor_matrix'][0, 3]


def test_files_are_found_in_the_data_root(tmp_path, tree):
    write_coco(tmp_path / 'train.json', IMAGES)
    dataset = CocoDataset(
        ann_file='train.json',
        data_root=str(tmp_path),
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
    )
    assert len(ClassHierarchyDataset(dataset, 'tree.json').hierarchy) == 7


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(name_map={'cat': 'Cat'}), r"'Cat' \(nearest: 'cat'\)"),
        (dict(name_map={'cat': 'dog'}), "'cat' and 'dog' both stand for node 'dog'"),
    ],
)
def test_maps_that_cannot_be_are_refused(ann_file, tree, kwargs, message):
    with pytest.raises(ValueError, match=message):
        ClassHierarchyDataset(coco(ann_file), tree, **kwargs)


def test_unknown_classes_are_named_or_left_alone(tmp_path, tree):
    path = write_coco(tmp_path / 'a.json', [[('tac', 0)]], classes=('tac', 'dog'))
    dataset = coco(path, metainfo=dict(classes=('tac', 'dog')))
    with pytest.raises(ValueError, match=r"tree\.json: 'tac'"):
        ClassHierarchyDataset(dataset, tree)
    lonely = ClassHierarchyDataset(
        dataset, tree, allow_unknown=True, add_ancestor_classes=True
    )
    assert lonely.metainfo['classes'] == ('tac', 'dog', 'animal')
    assert lonely.metainfo['ancestor_matrix'].sum(axis=1).tolist() == [1, 2, 1]


def test_appended_name_that_is_taken_is_refused(tmp_path, tree):
    classes = ('cat', 'animal')
    path = write_coco(tmp_path / 'a.json', [[('cat', 0)]], classes=classes)
    dataset = coco(path, metainfo=dict(classes=classes))
    with pytest.raises(ValueError, match=r"\['animal'\]"):
        ClassHierarchyDataset(
            dataset, tree, add_ancestor_classes=True, name_map={'animal': 'dog'}
        )


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('/m/1\n', 'line 1: expected'),
        ('/m/1,cat\n/m/2,cat\n', 'line 2: class .cat. stands for both'),
    ],
)
def test_broken_descriptions_are_refused(ann_file, tree, tmp_path, text, message):
    path = tmp_path / 'names.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ClassHierarchyDataset(coco(ann_file), tree, name_map=path)


def test_absent_files_are_named(ann_file, tree, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.json'):
        ClassHierarchyDataset(coco(ann_file), tmp_path / 'none.json')
    with pytest.raises(FileNotFoundError, match=r'none\.csv'):
        ClassHierarchyDataset(coco(ann_file), tree, name_map='none.csv')
    with pytest.raises(TypeError, match='`dataset` must be'):
        ClassHierarchyDataset([1], tree)


def test_real_aquarium_with_its_real_tree(shared_data):
    folder = shared_data / 'aquarium'
    classes = ('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish')
    classes += ('stingray',)
    official = {
        'fish': 'Fish',
        'jellyfish': 'Jellyfish',
        'penguin': 'Penguin',
        'puffin': 'Bird',
        'shark': 'Shark',
        'starfish': 'Starfish',
        'stingray': 'Rays and skates',
    }
    lines = (folder / 'open_images' / 'class-descriptions-boxable.csv').read_text()
    mids = {line.split(',')[1]: line.split(',')[0] for line in lines.splitlines()}
    dataset = ClassHierarchyDataset(
        coco(folder / 'train.json', metainfo=dict(classes=classes)),
        folder / 'open_images' / 'bbox_labels_hierarchy.json',
        name_map={name: mids[full] for name, full in official.items()},
        add_ancestor_classes=True,
    )
    names = dataset.metainfo['classes']
    assert len(names) == 10
    matrix = dataset.metainfo['ancestor_matrix']
    pairs = {(names[i], names[j]) for i, j in np.argwhere(matrix) if i != j}
    assert ('shark', 'fish') in pairs
    assert ('penguin', 'puffin') in pairs  # puffins carry the label Bird
    assert ('fish', mids['Animal']) in pairs
    assert ('fish', 'shark') not in pairs


# --- the matrix in the metainfo ------------------------------------------------------


def test_relation_matrix_compares_as_one_value_and_reads_as_an_array():
    matrix = RelationMatrix([[1, 1], [0, 1]])
    assert (matrix == RelationMatrix([[1, 1], [0, 1]])) is True
    assert (matrix != RelationMatrix(np.eye(2))) is True
    assert (matrix != RelationMatrix(np.eye(3))) is True
    assert (matrix == 1).tolist() == [[True, True], [False, True]]
    for part in (matrix[0], matrix + 0, matrix.T @ matrix, np.where(matrix)[0]):
        assert type(part) is np.ndarray
    assert np.where(matrix[0])[0].tolist() == [0, 1]  # as the host's metric reads it
    assert copy.deepcopy(matrix) is matrix
    assert type(pickle.loads(pickle.dumps(matrix))) is np.ndarray
    with pytest.raises(ValueError, match='read-only'):
        np.asarray(matrix)[0, 0] = False


@pytest.mark.parametrize('name', ['repeat', 'host concat', 'concat'])
def test_labels_of_an_image_of_joined_and_repeated_datasets(ann_file, tree, name):
    plain = coco(ann_file)
    dataset = ClassHierarchyDataset(WRAPPERS[name](plain), tree)
    assert len(dataset) == 6
    for i in range(6):
        assert dataset.get_cat_ids(i) == plain.get_cat_ids(i % 3)
