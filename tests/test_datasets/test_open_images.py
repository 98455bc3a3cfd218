"""Open Images as annotated, in training and in test mode, in every wrapper."""

import copy
import csv
import pickle
from collections import defaultdict

import cv2
import numpy as np
import pytest
from mmdet.datasets import ConcatDataset
from mmdet.registry import DATASETS
from mmengine.dataset import ClassBalancedDataset, Compose, RepeatDataset
from mmengine.dataset import ConcatDataset as EngineConcatDataset

from mmdet_imbalance.datasets import open_images_objects
from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.datasets.open_images import OpenImagesMultiLabelDataset
from tests.helpers.open_images_files import line, write_files

ANIMAL, DOG, TOY, CAR = range(4)


def dataset(folder, lines, facts=None, **kwargs):
    return OpenImagesMultiLabelDataset(**write_files(folder, lines, facts), **kwargs)


def found(data, i=0):
    """Primary label and box of each instance of an image, with its whole label set."""
    record = data.get_data_info(i)
    table = record.get('label_sets')
    rows = []
    for instance in record['instances']:
        ids = np.array([instance['bbox_label']])
        labels = np.flatnonzero(table.multi_hot(ids)[0]) if table else ids
        primary = int(table.primary(ids)[0]) if table else int(ids[0])
        rows.append((primary, tuple(labels.tolist()), tuple(instance['bbox'])))
    return rows


BOX = (0.1, 0.2, 0.5, 0.6)


# --- rows and images ------------------------------------------------------------------


def test_every_image_has_its_own_rows_and_file(tmp_path):
    lines = [
        line('x', '/m/d'),
        line('y', '/m/c'),
        line('x', '/m/c', 0.6, 0.6, 0.7, 0.7),
        line('last', '/m/t'),
    ]
    data = dataset(tmp_path, lines, data_prefix=dict(img='photos'))
    assert [data.get_data_info(i)['img_path'] for i in range(3)] == [
        'photos/x.jpg',
        'photos/y.jpg',
        'photos/last.jpg',
    ]
    assert found(data, 0) == [
        (DOG, (DOG,), BOX),
        (CAR, (CAR,), (0.6, 0.6, 0.7, 0.7)),
    ]
    assert found(data, -1) == [(TOY, (TOY,), BOX)]
    assert data.get_data_info(-1)['sample_idx'] == 2
    instance = data.get_data_info(0)['instances'][0]
    assert instance['is_inside'] is True
    assert instance['is_occluded'] is False  # -1 is unknown
    with pytest.raises(IndexError, match=r'\[-3, 3\)'):
        data.get_data_info(3)


def test_chosen_classes_take_effect_and_others_are_left_out(tmp_path):
    lines = [line('x', '/m/d'), line('x', '/m/c', 0.4), line('y', '/m/a')]
    data = dataset(tmp_path, lines, metainfo=dict(classes=('Car', 'Animal')))
    assert data.metainfo['classes'] == ('Car', 'Animal')
    assert [row[0] for row in found(data, 0)] == [0]
    assert [row[0] for row in found(data, 1)] == [1]
    assert data.report['other_classes'] == 1
    with pytest.raises(ValueError, match="nearest to 'Cra' is 'Car'"):
        dataset(tmp_path, lines, metainfo=dict(classes=('Cra',)))


def test_ancestors_are_in_the_metainfo(tmp_path):
    matrix = dataset(tmp_path, []).metainfo['ancestor_matrix']
    expected = np.eye(4, dtype=bool)
    expected[DOG, ANIMAL] = True
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(
    ('mode', 'flags'), [('ignore', [1, 0]), ('use', [0, 0]), ('drop', [0])]
)
def test_groups_train_as_told(tmp_path, mode, flags):
    lines = [line('x', '/m/d', group=1), line('x', '/m/c', 0.3)]
    data = dataset(tmp_path, lines, train_group_of=mode)
    record = data.get_data_info(0)
    assert [row['ignore_flag'] for row in record['instances']] == flags
    if mode != 'drop':
        assert record['not_exhaustive'] == [DOG]


def test_filter_leaves_images_with_objects_but_not_in_a_test(tmp_path):
    lines = [line('x', '/m/d'), line('y', '/m/c')]
    kwargs = dict(
        filter_cfg=dict(filter_empty_gt=True), metainfo=dict(classes=('Car',))
    )
    assert len(dataset(tmp_path, lines, **kwargs)) == 1
    assert len(dataset(tmp_path, lines, test_mode=True, **kwargs)) == 2
    assert dataset(tmp_path, lines, **kwargs).get_data_info(0)['img_id'] == 'y'
    with pytest.raises(ValueError, match='image_sizes'):
        dataset(tmp_path, lines, filter_cfg=dict(min_size=32))
    with pytest.raises(ValueError, match='filter_empty'):
        dataset(tmp_path, lines, filter_cfg=dict(filter_empty=True))


def test_sizes_make_boxes_absolute_and_filter(tmp_path):
    lines = [line('x', '/m/d'), line('y', '/m/d')]
    arguments = write_files(tmp_path, lines)
    (tmp_path / 'sizes.csv').write_text('ImageID,Width,Height\ny,20,10\nx,200,100\n')
    data = OpenImagesMultiLabelDataset(
        **arguments,
        image_sizes_file=str(tmp_path / 'sizes.csv'),
        filter_cfg=dict(min_size=32),
    )
    assert len(data) == 1
    record = data.get_data_info(0)
    assert (record['width'], record['height']) == (200, 100)
    assert record['instances'][0]['bbox'] == pytest.approx([20, 20, 100, 60])
    assert 'boxes_are_normalized' not in record


def test_asking_for_an_unknown_size_says_how_to_know_it(tmp_path):
    write_image(tmp_path / 'img', 'x')
    data = dataset(
        tmp_path,
        [line('x', '/m/d')],
        data_prefix=dict(img=str(tmp_path / 'img')),
        pipeline=STEPS[:1],
    )
    with pytest.raises(KeyError, match='image_sizes_file'):
        data.get_data_info(0)['width']
    assert (data[0]['width'], data[0]['height']) == (40, 20)
    assert copy.deepcopy(data.get_data_info(0)) == data.get_data_info(0)


def test_subsets_are_those_of_the_host(tmp_path):
    lines = [line(name, '/m/d') for name in 'abcd']
    ids = lambda d: [d.get_data_info(i)['img_id'] for i in range(len(d))]  # noqa: E731
    assert ids(dataset(tmp_path, lines, indices=2)) == ['a', 'b']
    assert ids(dataset(tmp_path, lines, indices=-1)) == ['d']
    data = dataset(tmp_path, lines, indices=[3, 0, 1])
    assert ids(data.get_subset([2, 0])) == ['b', 'd']
    assert ids(data) == ['d', 'a', 'b']
    data.get_subset_(1)
    assert ids(data) == ['d']


# --- objects ------------------------------------------------------------------------


def test_two_labels_of_one_object_become_a_set(tmp_path):
    lines = [line('x', '/m/t'), line('x', '/m/d', x2=0.501), line('x', '/m/c', 0.4)]
    data = dataset(tmp_path, lines)
    # A dog is more specific than a toy: it has an ancestor.
    assert found(data)[0] == (DOG, (DOG, TOY), (0.1, 0.2, 0.501, 0.6))
    assert [row[0] for row in found(data)] == [DOG, CAR]
    assert data.get_cat_ids(0) == [DOG, TOY, CAR]
    assert (data.report['concurrent'], data.report['implied']) == (1, 0)


def test_class_and_ancestor_become_the_class(tmp_path):
    data = dataset(tmp_path, [line('x', '/m/a'), line('x', '/m/d')])
    assert found(data) == [(DOG, (DOG,), BOX)]
    assert data.report['implied'] == 1


def test_repeated_rows_count_once_and_groups_are_no_object(tmp_path):
    lines = [line('x', '/m/d'), line('x', '/m/d'), line('x', '/m/t', group=1)]
    data = dataset(tmp_path, lines)
    assert found(data) == [(DOG, (DOG,), BOX), (TOY, (TOY,), BOX)]
    assert data.report['repeated'] == 1


def test_test_mode_keeps_the_rows_exactly(tmp_path):
    lines = [line('x', '/m/a'), line('x', '/m/d'), line('x', '/m/d')]
    lines += [line('x', '/m/t', -0.1, 0, 0.5, 1.2), line('x', '/m/c', 0.5, 0.5, 0.5)]
    data = dataset(tmp_path, lines, test_mode=True)
    assert [row[0] for row in found(data)] == [ANIMAL, DOG, DOG, TOY, CAR]
    assert found(data)[3][2] == (-0.1, 0, 0.5, 1.2)
    assert data.report['objects'] == 5


def test_training_clips_and_leaves_out_what_has_no_area(tmp_path):
    lines = [line('x', '/m/t', -0.1, 0, 0.5, 1.2), line('x', '/m/c', 0.5, 0.5, 0.5)]
    data = dataset(tmp_path, lines)
    assert found(data) == [(TOY, (TOY,), (0, 0, 0.5, 1))]
    assert (data.report['clipped'], data.report['without_area']) == (1, 1)


def test_joining_is_the_same_in_parts(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    lines = []
    for k in rng.integers(0, 30, 300):
        x, y = rng.integers(0, 3, 2) / 4
        mid = '/m/' + 'adtc'[rng.integers(4)]
        lines.append(line(f'im{k}', mid, x, y, x + 0.2, y + 0.2))
    whole = dataset(tmp_path / 'a', lines)
    module = 'mmdet_imbalance.datasets.open_images_objects.ROWS_AT_ONCE'
    monkeypatch.setattr(module, 7)
    parts = dataset(tmp_path / 'b', lines)
    assert whole.report == parts.report
    assert whole.report['concurrent'] > 10
    for i in range(len(whole)):
        assert found(whole, i) == found(parts, i)


@pytest.mark.parametrize('num_classes', [4, 500])  # a set in one integer, or not
def test_sets_are_numbered_as_they_come(num_classes):
    rng = np.random.default_rng(0)
    rows = [rng.permutation(9)[: rng.integers(2, 5)].tolist() for _ in range(99)]
    rows = [[k % num_classes for k in row] for row in rows]
    rows = [row for row in rows if len(set(row)) == len(row)]
    width = 9 if num_classes > 4 else 4
    table = np.full((len(rows), width), num_classes)
    for slots, row in zip(table, rows, strict=True):
        slots[: len(row)] = row
    numbers = open_images_objects._SetNumbers(num_classes)
    known = {}
    for part in (slice(0, 20), slice(20, None)):
        keys = [(row[0], *sorted(row[1:])) for row in rows[part]]
        expected = [known.setdefault(k, num_classes + len(known)) for k in keys]
        assert numbers.number(table[part]).tolist() == expected
    assert numbers.found == known


def test_index_and_statistics_take_sets_apart(tmp_path):
    lines = [line('x', '/m/t'), line('x', '/m/d'), line('y', '/m/d', group=1)]
    data = dataset(tmp_path, lines)
    index = data.label_index()
    assert index.labels.tolist() == [DOG, TOY, DOG]
    assert index.ignored.tolist() == [False, False, True]
    stats = class_stats_of(data, tmp_path / 'stats')
    assert stats.instance_count.tolist() == [0, 1, 1, 0]
    assert stats.expanded_instance_count.tolist() == [1, 1, 1, 0]
    assert stats.pair_count()[DOG, TOY] == 1
    assert stats.pair_count(expanded=True)[ANIMAL, TOY] == 1
    assert class_stats_of(data, tmp_path / 'stats').to_dict() == stats.to_dict()


# --- image-level facts ----------------------------------------------------------------


def test_facts_are_labels_and_boxes_outvote_negatives(tmp_path):
    facts = ['x,v,/m/t,1', 'x,v,/m/c,0', 'x,v,/m/d,0', 'x,m,/m/a,0.7', 'z,v,/m/c,0']
    data = dataset(tmp_path, [line('x', '/m/d'), line('y', '/m/d')], facts)
    record = data.get_data_info(0)
    assert record['verified_pos'] == [DOG, TOY]
    assert record['verified_neg'] == [CAR]
    assert record['not_exhaustive'] == []
    assert record['image_level_labels'].tolist() == [TOY, CAR, DOG, ANIMAL]
    # Image z has no box, but is judged: a car found there is wrong.
    record = data.get_data_info(2)
    assert (record['img_id'], record['instances']) == ('z', [])
    assert (record['verified_pos'], record['verified_neg']) == ([], [CAR])


def test_no_facts_are_invented_without_the_file(tmp_path):
    record = dataset(tmp_path, [line('x', '/m/d')]).get_data_info(0)
    assert 'verified_pos' not in record


# --- host's wrappers and pipelines ----------------------------------------------------


@pytest.mark.parametrize('join', [ConcatDataset, EngineConcatDataset])
def test_two_sets_can_be_joined_and_repeated(tmp_path, join):
    one = dataset(tmp_path / '1', [line('x', '/m/t'), line('x', '/m/d')])
    two = dataset(tmp_path / '2', [line('y', '/m/c'), line('y', '/m/a')])
    joined = join([one, two])
    assert joined.metainfo['classes'] == one.metainfo['classes']
    assert found(joined, 0)[0][1] == (DOG, TOY)
    assert found(joined, 1)[0][1] == (ANIMAL, CAR)
    # Ids of both are of one table: they may meet in one mixed image.
    first, second = (joined.get_data_info(i) for i in range(2))
    assert first['label_sets'] is second['label_sets']
    ids = [r['instances'][0]['bbox_label'] for r in (first, second)]
    assert ids[0] != ids[1]
    assert found(RepeatDataset(two, 2), 1) == found(joined, 1)
    assert len(ClassBalancedDataset(one, 0.5)) == 1


def write_image(folder, name, width=40, height=20):
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f'{name}.jpg'), np.zeros((height, width, 3), np.uint8))


STEPS = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
]


@pytest.mark.parametrize('resize_first', [False, True])
def test_stock_steps_see_pixels_of_the_loaded_image(tmp_path, resize_first):
    write_image(tmp_path / 'img', 'x')
    resize = dict(type='mmdet.Resize', scale=(80, 80), keep_ratio=True)
    steps = [STEPS[0], resize, STEPS[1]] if resize_first else [*STEPS, resize]
    pack = dict(type='mmdet.PackDetInputs', meta_keys=('instances', 'ori_shape'))
    data = dataset(
        tmp_path,
        [line('x', '/m/d'), line('x', '/m/a', 0.5)],
        test_mode=True,
        data_prefix=dict(img=str(tmp_path / 'img')),
        pipeline=[*steps, pack],
    )
    sample = data[0]['data_samples']
    # As in the host: boxes that are loaded after resizing are those of the original.
    boxes = sample.gt_instances.bboxes.tensor.numpy()
    expected = np.array([4, 4, 20, 12]) * (1 if resize_first else 2)
    np.testing.assert_allclose(boxes[0], expected, rtol=1e-6)
    assert sample.instances[0]['bbox'] == pytest.approx([4, 4, 20, 12])


def test_turned_photos_are_measured_as_they_are_decoded(tmp_path):
    from PIL import Image

    (tmp_path / 'img').mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new('RGB', (40, 20)).save(tmp_path / 'img' / 'x.jpg', exif=exif)
    data = dataset(
        tmp_path,
        [line('x', '/m/d')],
        data_prefix=dict(img=str(tmp_path / 'img')),
        pipeline=STEPS,
    )
    sample = data[0]
    assert sample['img'].shape[:2] == (40, 20)
    np.testing.assert_allclose(sample['gt_bboxes'].tensor[0], [2, 8, 10, 24])


def test_boxes_before_the_image_are_refused(tmp_path):
    write_image(tmp_path / 'img', 'x')
    data = dataset(
        tmp_path,
        [line('x', '/m/d')],
        data_prefix=dict(img=str(tmp_path / 'img')),
        pipeline=STEPS[::-1],
    )
    with pytest.raises(ValueError, match='before the image'):
        data[0]


def test_missing_image_is_named(tmp_path):
    data = dataset(tmp_path, [line('gone', '/m/d')], pipeline=STEPS)
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        data[0]


def test_stock_pack_step_is_refused_where_it_would_see_ids(tmp_path):
    pack = [dict(type='mmdet.PackDetInputs')]
    lines = [line('x', '/m/t'), line('x', '/m/d')]
    with pytest.raises(ValueError, match='PackMultiLabelDetInputs'):
        dataset(tmp_path, lines, pipeline=pack)
    plain = dataset(tmp_path, lines, pipeline=pack, same_object_iou=None)
    assert [i['bbox_label'] for i in plain.get_data_info(0)['instances']] == [TOY, DOG]
    data = dataset(tmp_path, lines)
    with pytest.raises(ValueError, match='PackMultiLabelDetInputs'):
        data.pipeline = Compose(pack)


def test_registry_lazy_copy_and_worker(tmp_path):
    config = dict(
        type='mmdet_imbalance.OpenImagesMultiLabelDataset',
        lazy_init=True,
        **write_files(tmp_path, [line('x', '/m/t'), line('x', '/m/d')]),
    )
    data = DATASETS.build(config)
    assert not data._fully_initialized
    assert data.metainfo['classes'][DOG] == 'Dog'
    for other in (data, copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert found(other)[0][1] == (DOG, TOY)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(train_group_of='no'), 'train_group_of'),
        (dict(bad_rows='ignore'), 'bad_rows'),
        (dict(same_object_iou=0), 'same_object_iou'),
        (dict(proposal_file='x.pkl'), 'proposal_file'),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        dataset(tmp_path, [], **kwargs)


def test_arguments_of_the_host_take_effect_or_raise(tmp_path):
    plain = dataset(tmp_path, [line('x', '/m/d')])
    assert 'text' not in plain.get_data_info(0)
    prompt = {'Dog': dict(prefix='a ')}
    texts = dict(return_classes=True, caption_prompt=prompt)
    record = dataset(tmp_path, [line('x', '/m/d')], **texts).get_data_info(0)
    assert record['text'] == plain.metainfo['classes']
    assert record['caption_prompt'] == prompt
    assert record['custom_entities'] is True
    dataset(tmp_path, [line('x', '/m/d')], backend_args=dict(backend='local'))
    with pytest.raises(ValueError, match=r'`backend_args`.*petrel'):
        dataset(tmp_path, [line('x', '/m/d')], backend_args=dict(backend='petrel'))


def test_real_files_give_their_rows(shared_data, tmp_path):
    folder = shared_data / 'aquarium' / 'open_images'
    data = OpenImagesMultiLabelDataset(
        str(folder / 'train-annotations-bbox.csv'),
        str(folder / 'class-descriptions-boxable.csv'),
        str(folder / 'bbox_labels_hierarchy.json'),
        str(folder / 'train-annotations-human-imagelabels-boxable.csv'),
        cache_dir=tmp_path,
        test_mode=True,
    )
    rows = defaultdict(list)
    with open(data.ann_file, newline='') as file:
        for row in csv.DictReader(file):
            box = [float(row[k]) for k in ('XMin', 'YMin', 'XMax', 'YMax')]
            rows[row['ImageID']].append((row['LabelName'], box))
    # One photo has no box, only verified labels.
    assert (len(data), len(rows)) == (448, 447)
    with open(data.label_file, newline='') as file:
        mids = [mid for mid, _ in csv.reader(file)]
    for i in range(len(data)):
        record = data.get_data_info(i)
        got = [(mids[r['bbox_label']], r['bbox']) for r in record['instances']]
        assert got == rows[record['img_id']]
