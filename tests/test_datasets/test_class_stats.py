"""Statistics of host datasets: counts, groups, and a cache that is never trusted."""

import json
from collections import Counter

import numpy as np
import pytest
from mmdet.datasets import ConcatDataset, MultiImageMixDataset
from mmengine.dataset import ClassBalancedDataset, RepeatDataset

from mmdet_imbalance.datasets import class_stats as module
from mmdet_imbalance.datasets.class_hierarchy import ClassHierarchyDataset
from mmdet_imbalance.datasets.class_stats import class_stats_of
from tests.helpers.coco_files import CLASSES, coco, write_coco

IMAGES = [[('cat', 0), ('cat', 0)], [('cat', 0), ('dog', 1)], [], [('dog', 0)]]


@pytest.fixture
def ann_file(tmp_path):
    return write_coco(tmp_path / 'train.json', IMAGES)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / 'cache'


def entries(cache):
    return sorted(cache.rglob('*.json'))


def test_crowds_and_empty_images_are_counted_as_documented(ann_file, cache):
    stats = class_stats_of(coco(ann_file), cache)
    assert stats.class_names == CLASSES
    assert stats.num_images == 4
    assert stats.img_count.tolist() == [2, 1, 0]
    assert stats.instance_count.tolist() == [3, 1, 0]
    assert not stats.has_hierarchy


def test_real_counts_equal_pure_python(shared_data, cache):
    path = shared_data / 'aquarium' / 'train.json'
    data = json.loads(path.read_text())
    names = [category['name'] for category in data['categories']]
    name_of = {c['id']: c['name'] for c in data['categories']}
    # The host drops boxes of less than a pixel: one of them is here.
    kept = [a for a in data['annotations'] if min(a['bbox'][2:]) >= 1]
    assert len(kept) == len(data['annotations']) - 1
    boxes = Counter(name_of[a['category_id']] for a in kept)
    pairs = {(a['image_id'], name_of[a['category_id']]) for a in kept}
    images = Counter(name for _, name in pairs)
    stats = class_stats_of(coco(path, metainfo=dict(classes=names)), cache)
    assert stats.num_images == len(data['images']) == 448
    assert stats.instance_count.tolist() == [boxes[name] for name in names]
    assert stats.img_count.tolist() == [images[name] for name in names]


@pytest.mark.parametrize(
    'wrap',
    [
        lambda d: RepeatDataset(d, times=3),
        lambda d: ClassBalancedDataset(d, oversample_thr=0.9),
        lambda d: MultiImageMixDataset(d, pipeline=[]),
    ],
)
def test_wrappers_that_show_images_again_change_no_count(ann_file, cache, wrap):
    plain = class_stats_of(coco(ann_file), cache)
    assert class_stats_of(wrap(coco(ann_file)), cache).to_dict() == plain.to_dict()


def test_joined_datasets_add_up(ann_file, cache, tmp_path):
    other = write_coco(tmp_path / 'more.json', [[('cow', 0)]])
    stats = class_stats_of(ConcatDataset([coco(ann_file), coco(other)]), cache)
    assert stats.img_count.tolist() == [2, 1, 1]
    assert stats.num_images == 5


def test_filters_and_subsets_are_counted_and_have_their_own_entry(ann_file, cache):
    num = []
    for kwargs in ({}, dict(filter_cfg=dict(filter_empty_gt=True)), dict(indices=2)):
        num.append(class_stats_of(coco(ann_file, **kwargs), cache).num_images)
    assert num == [4, 3, 2]
    assert len(entries(cache)) == 3


def test_a_subset_made_later_is_not_confused_with_another(ann_file, cache):
    first, second = coco(ann_file), coco(ann_file)
    first.get_subset_([0, 1])
    second.get_subset_([2, 3])
    assert class_stats_of(first, cache).img_count.tolist() == [2, 0, 0]
    assert class_stats_of(second, cache).img_count.tolist() == [0, 1, 0]


def test_second_call_reads_the_cache(ann_file, cache, monkeypatch):
    first = class_stats_of(coco(ann_file), cache)
    monkeypatch.setattr(module, 'count_classes', None)
    assert class_stats_of(coco(ann_file), cache).to_dict() == first.to_dict()
    with pytest.raises(TypeError):
        class_stats_of(coco(ann_file), cache, use_cache=False)


def test_changed_annotation_is_counted_anew(ann_file, cache):
    class_stats_of(coco(ann_file), cache)
    write_coco(ann_file, [*IMAGES[::-1], [('cow', 0)]])
    assert class_stats_of(coco(ann_file), cache).img_count.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    'spoil',
    [
        lambda text: text[:40],
        lambda text: '',
        lambda text: text.replace('"version": 1', '"version": 0'),
        lambda text: text.replace('"cat"', '"cow "'),
    ],
)
def test_spoilt_entry_is_replaced(ann_file, cache, spoil):
    expected = class_stats_of(coco(ann_file), cache).to_dict()
    (entry,) = entries(cache)
    entry.write_text(spoil(entry.read_text()))
    assert class_stats_of(coco(ann_file), cache).to_dict() == expected
    assert json.loads(entry.read_text())['img_count'] == expected['img_count']


def test_folder_that_cannot_be_written_costs_no_more_than_time(ann_file, tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('')
    assert class_stats_of(coco(ann_file), blocked).num_images == 4


def test_default_folder_follows_the_environment(ann_file, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    monkeypatch.delenv('MMDET_IMBALANCE_CACHE', raising=False)
    class_stats_of(coco(ann_file))
    assert entries(tmp_path / 'xdg' / 'mmdet_imbalance' / 'class_stats')
    monkeypatch.setenv('MMDET_IMBALANCE_CACHE', str(tmp_path / 'own'))
    class_stats_of(coco(ann_file))
    assert entries(tmp_path / 'own' / 'class_stats')


def test_groups_are_those_of_the_annotation(tmp_path, cache):
    ann_file = write_coco(tmp_path / 'a.json', IMAGES, frequency=['f', 'c', 'r'])
    assert ''.join(class_stats_of(coco(ann_file), cache).freq_group) == 'fcr'


def test_groups_by_count_without_or_against_the_annotation(ann_file, tmp_path, cache):
    assert ''.join(class_stats_of(coco(ann_file), cache).freq_group) == 'rrr'
    some = write_coco(tmp_path / 'some.json', IMAGES, frequency=['f'])
    assert ''.join(class_stats_of(coco(some), cache).freq_group) == 'rrr'
    own = class_stats_of(coco(ann_file), cache, freq_thresholds=(0, 1))
    assert ''.join(own.freq_group) == 'fcr'


def test_metainfo_states_groups_first(tmp_path, cache):
    ann_file = write_coco(tmp_path / 'a.json', IMAGES, frequency=['f', 'c', 'r'])
    metainfo = dict(classes=CLASSES, frequency=['c', 'c', 'f'])
    stats = class_stats_of(coco(ann_file, metainfo=metainfo), cache)
    assert ''.join(stats.freq_group) == 'ccf'
    metainfo['frequency'] = ['c', 'c', 'often']
    with pytest.raises(ValueError, match='often'):
        class_stats_of(coco(ann_file, metainfo=metainfo), cache)


def test_hierarchy_is_counted_for_the_same_records(ann_file, tmp_path, cache):
    tree = tmp_path / 'tree.json'
    tree.write_text(
        json.dumps(
            dict(
                LabelName='root',
                Subcategory=[
                    dict(LabelName='pet', Subcategory=[dict(LabelName='cat')]),
                    dict(LabelName='dog'),
                    dict(LabelName='cow'),
                ],
            )
        )
    )
    flat = class_stats_of(coco(ann_file), cache)
    dataset = ClassHierarchyDataset(
        RepeatDataset(coco(ann_file), times=2), tree, add_ancestor_classes=True
    )
    stats = class_stats_of(dataset, cache)
    assert stats.class_names == (*CLASSES, 'pet')
    assert stats.img_count.tolist() == [*flat.img_count, 0]
    assert stats.expanded_img_count.tolist() == [*flat.img_count, 2]
    assert stats.expanded_instance_count.tolist() == [*flat.instance_count, 3]
    assert stats.concurrent_rate()[0, 3] == 1
    assert class_stats_of(RepeatDataset(dataset, times=2), cache).to_dict() == (
        stats.to_dict()
    )


def test_dataset_without_class_names_is_refused(ann_file):
    dataset = coco(ann_file)
    dataset._metainfo = {}
    with pytest.raises(ValueError, match='names no classes'):
        class_stats_of(dataset)


def test_matrix_of_another_size_is_refused(ann_file, cache):
    metainfo = dict(classes=CLASSES, ancestor_matrix=np.eye(2).tolist())
    with pytest.raises(ValueError, match=r'shape \(3, 3\)'):
        class_stats_of(coco(ann_file, metainfo=metainfo), cache)


def test_zero_size_boxes_do_not_count_because_the_host_drops_them(tmp_path, cache):
    path = write_coco(tmp_path / 'a.json', [[('cat', 0)]])
    data = json.loads(path.read_text())
    data['annotations'].append({**data['annotations'][0], 'id': 2})
    data['annotations'][1]['bbox'] = [5, 5, 0, 10]
    path.write_text(json.dumps(data))
    assert class_stats_of(coco(path), cache).instance_count.tolist() == [1, 0, 0]
