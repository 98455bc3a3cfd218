"""Annotations, cache and export of the demo data."""

import json
import multiprocessing
from collections import Counter

import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from mmdet_imbalance.datasets import glyph_cache
from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.datasets.glyph_cache import content_key
from mmdet_imbalance.datasets.glyph_export import coco_content, export_coco
from mmdet_imbalance.datasets.glyph_renderer import GlyphScene
from mmdet_imbalance.datasets.glyph_vocabulary import CLASSES, LEAVES, NUM_LEAVES
from mmdet_imbalance.registry import DATASETS

PIPELINE = [
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.PackDetInputs'),
]
LABEL = {leaf.glyph: label for label, leaf in enumerate(LEAVES)}


def build(num_images=12, **kwargs):
    init_default_scope('mmdet')
    small = dict(image_size=64, glyph_size=(10, 20))
    return DATASETS.build(
        dict(
            type='mmdet_imbalance.GlyphDataset',
            num_images=num_images,
            **(small | kwargs),
        )
    )


def records(dataset):
    return [dataset.get_data_info(idx) for idx in range(len(dataset))]


def instances(dataset):
    return [i for record in records(dataset) for i in record['instances']]


def objects(dataset):
    """Annotated labels, true labels and box of each object, by (image, object)."""
    found = {}
    for record in records(dataset):
        for instance in record['instances']:
            key = (record['img_id'], instance['object_id'])
            labels, true, box = found.setdefault(
                key, ([], instance['true_labels'], instance['bbox'])
            )
            labels += instance.get('multi_labels') or [instance['bbox_label']]
            assert true == instance['true_labels']
            assert box == instance['bbox']
    return found


def test_first_images_do_not_depend_on_the_number():
    few, many = build(5), build(20)
    assert records(few) == records(many)[:5]
    assert np.array_equal(few.image(4), many.image(4))


def test_boxes_are_those_of_the_scene():
    dataset = build(6, annotate='one')
    scene = GlyphScene(image_size=64, glyph_size=(10, 20))
    for record in records(dataset):
        glyphs = scene.glyphs(0, record['img_id'], dataset.leaf_probs)
        assert [i['bbox'] for i in record['instances']] == [list(g.box) for g in glyphs]
        assert [i['bbox_label'] for i in record['instances']] == [
            g.label for g in glyphs
        ]


def test_all_annotates_every_homoglyph_and_nothing_else():
    found = objects(build(60, annotate='all', imbalance_factor=1.0))
    sizes = Counter()
    for labels, true, _ in found.values():
        assert sorted(labels) == true
        assert len({LEAVES[label].shape for label in labels}) == 1
        sizes[len(labels)] += 1
    assert set(sizes) == {1, 2, 3}
    latin_a = [true for _, true, _ in found.values() if LABEL['A'] in true]
    assert latin_a
    assert all(true == sorted(LABEL[c] for c in 'AΑА') for true in latin_a)


def test_one_annotates_one_of_the_true_labels_each_in_its_share():
    found = objects(build(800, annotate='one', imbalance_factor=1.0))
    annotated = Counter()
    for labels, true, _ in found.values():
        assert len(labels) == 1
        assert labels[0] in true
        annotated[labels[0]] += 1
    # Latin, Greek and Cyrillic A in equal parts: binomial, 5 standard deviations.
    counts = np.array([annotated[LABEL[c]] for c in 'AΑА'])
    mean = counts.sum() / 3
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean * 2 / 3)


def test_complete_fraction_mixes_both():
    found = objects(build(300, annotate='one', complete_fraction=0.3))
    complete = [len(labels) == len(t) for labels, t, _ in found.values() if len(t) > 1]
    deviation = np.sqrt(0.3 * 0.7 / len(complete))
    assert abs(np.mean(complete) - 0.3) < 5 * deviation


def test_label_noise_replaces_whole_label_sets_at_its_rate():
    clean, noisy = build(300), build(300, label_noise=0.25)
    clean = objects(clean)
    wrong = []
    for key, (labels, true, box) in objects(noisy).items():
        _, clean_true, clean_box = clean[key]
        assert (true, box) == (clean_true, clean_box)
        wrong.append(sorted(labels) != true)
        assert not wrong[-1] or (len(labels) == 1 and labels[0] not in true)
    assert abs(np.mean(wrong) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / len(wrong))


def test_options_of_annotation_leave_the_pixels_alone():
    plain = build(3)
    for kwargs in (dict(annotate='one'), dict(label_noise=0.5)):
        assert np.array_equal(build(3, **kwargs).image(2), plain.image(2))


def test_sets_and_rows_hold_the_same_labels():
    kwargs = dict(annotate='one', complete_fraction=0.5, label_noise=0.1)
    rows = build(80, label_format='rows', **kwargs)
    sets = build(80, label_format='sets', **kwargs)
    by_row, by_set = objects(rows), objects(sets)
    assert by_row.keys() == by_set.keys()
    for key, (labels, true, box) in by_row.items():
        assert sorted(labels) == sorted(by_set[key][0])
        assert (true, box) == by_set[key][1:]


def test_label_set_ids_index_the_table():
    dataset = build(80, label_format='sets', imbalance_factor=1.0)
    table = dataset.metainfo['label_sets']
    num_classes = len(CLASSES)
    seen = set()
    for instance in instances(dataset):
        value, labels = instance['bbox_label'], instance['multi_labels']
        if value < num_classes:
            assert labels == [value]
        else:
            assert sorted(table[value - num_classes]) == labels
            seen.add(value)
    assert len(seen) > 10
    # The drawn leaf comes first; every leaf of a homoglyph group has an entry.
    assert sorted(row[0] for row in table) == sorted(
        label for c, label in LABEL.items() if is_homoglyph(label)
    )


def test_pack_transform_decodes_label_sets():
    pack = dict(type='mmdet_imbalance.PackMultiLabelDetInputs')
    pipeline = [PIPELINE[0], dict(type='mmdet.RandomFlip', prob=1.0), pack]
    kwargs = dict(annotate='one', complete_fraction=0.5, imbalance_factor=1.0)
    dataset = build(30, label_format='sets', pipeline=pipeline, **kwargs)
    num_sets = 0
    for idx in range(30):
        truth = dataset[idx]['data_samples'].gt_instances
        wanted = dataset.get_data_info(idx)['instances']
        assert truth.multi_labels.shape == (len(wanted), len(CLASSES))
        for instance, label, labels in zip(
            wanted, truth.labels, truth.multi_labels, strict=True
        ):
            assert np.flatnonzero(labels).tolist() == instance['multi_labels']
            assert bool(labels[label])
            num_sets += len(instance['multi_labels']) > 1
    assert num_sets > 5


def is_homoglyph(label):
    return sum(leaf.shape == LEAVES[label].shape for leaf in LEAVES) > 1


def test_zipf_counts_of_annotated_labels():
    dataset = build(
        1500, annotate='one', imbalance_factor=50.0, glyph_size=(8, 8), image_size=96
    )
    labels = [i['bbox_label'] for i in instances(dataset)]
    count = np.bincount(labels, minlength=NUM_LEAVES)[:NUM_LEAVES]
    expected = dataset.leaf_probs * len(labels)
    assert expected.max() / expected.min() == pytest.approx(50.0)
    assert ((count - expected) ** 2 / expected).sum() < 125
    assert max(labels) < NUM_LEAVES


def test_get_cat_ids_and_label_index_agree():
    for label_format in ('rows', 'sets'):
        dataset = build(30, label_format=label_format, objects_per_image=(0, 3))
        index = dataset.label_index()
        assert len(index) == 30
        for idx in range(30):
            rows = slice(index.image_ptr[idx], index.image_ptr[idx + 1])
            assert dataset.get_cat_ids(idx) == index.labels[rows].tolist()
            pairs = list(zip(index.objects[rows], index.labels[rows], strict=True))
            assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize('label_format', ['rows', 'sets'])
def test_class_stats_count_label_sets(label_format):
    dataset = build(
        80, annotate='one', complete_fraction=0.5, label_format=label_format
    )
    pairs = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    for labels, _, _ in objects(dataset).values():
        for one in labels:
            for other in labels:
                pairs[one, other] += 1
    stats = class_stats_of(dataset, use_cache=False)
    assert np.array_equal(stats.pair_count(), pairs)
    assert np.array_equal(stats.instance_count, pairs.diagonal())
    assert np.array_equal(stats.ancestor_matrix, dataset.metainfo['ancestor_matrix'])
    assert (pairs > 0).sum() > (pairs.diagonal() > 0).sum()


def test_label_index_of_images_without_objects():
    index = build(4, objects_per_image=(0, 0)).label_index()
    assert index.image_ptr.tolist() == [0, 0, 0, 0, 0]


def test_filter_drops_empty_images_in_training_only():
    kwargs = dict(objects_per_image=(0, 1), filter_cfg=dict(filter_empty_gt=True))
    train = build(40, **kwargs)
    assert 0 < len(train) < 40
    assert all(record['instances'] for record in records(train))
    assert len(build(40, test_mode=True, **kwargs)) == 40
    with pytest.raises(ValueError, match='filter_empty'):
        build(4, filter_cfg=dict(filter_empty=True))
    # After filtering a position is no image id any more; the image must follow the id.
    train = build(40, pipeline=[], **kwargs)
    sample = train[len(train) - 1]
    assert np.array_equal(sample['img'], train.image(sample['img_id']))


def test_classes_can_be_a_part_of_the_vocabulary():
    names = ('letter', 'greek-upper-Alpha', 'latin-upper-A', 'digit-2')
    dataset = build(200, imbalance_factor=1.0, metainfo=dict(classes=names))
    assert dataset.metainfo['classes'] == names
    matrix = np.array(dataset.metainfo['ancestor_matrix'])
    assert np.flatnonzero(matrix[1]).tolist() == [0, 1]
    kinds = {tuple(sorted(labels)) for labels, _, _ in objects(dataset).values()}
    assert kinds == {(1, 2), (3,)}
    assert np.array_equal(dataset.image(3), build(200, imbalance_factor=1.0).image(3))
    with pytest.raises(ValueError, match='nonsense'):
        build(2, metainfo=dict(classes=('nonsense',)))
    with pytest.raises(ValueError, match='distinct'):
        build(2, metainfo=dict(classes=('digit-2', 'digit-2')))


def test_metainfo_of_two_sets_can_be_compared():
    both = ConcatDataset([build(2), build(3, seed=4)])
    assert len(both) == 5
    assert both.metainfo['classes'] == CLASSES


def test_runs_through_the_stock_pipeline_and_workers():
    dataset = build(10, pipeline=PIPELINE, label_format='rows')
    alone = [dataset[idx] for idx in range(10)]
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    for sample, loaded in zip(alone, loader, strict=True):
        assert (sample['inputs'] == loaded['inputs']).all()
        truth = sample['data_samples'].gt_instances
        assert (truth.labels == loaded['data_samples'].gt_instances.labels).all()
        assert sample['data_samples'].img_shape == (64, 64)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num_images=-1), 'num_images'),
        (dict(num_images=2.5), 'num_images'),
        (dict(seed=-1), 'seed'),
        (dict(annotate='some'), 'annotate'),
        (dict(label_format='set'), 'label_format'),
        (dict(label_noise=1.5), 'label_noise'),
        (dict(annotate='one', complete_fraction=-0.1), 'complete_fraction'),
        (dict(annotate='all', complete_fraction=0.5), 'complete_fraction'),
        (dict(imbalance_factor=0.0), 'imbalance_factor'),
    ],
)
def test_refuses_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_refuses_image_outside():
    with pytest.raises(IndexError, match='img_id'):
        build(3).image(3)


# --- cache ------------------------------------------------------------------------
def test_cache_equals_on_the_fly(tmp_path):
    plain = build(6)
    for _ in range(2):
        cached = build(6, cache_dir=tmp_path)
        for idx in range(6):
            assert np.array_equal(cached.image(idx), plain.image(idx))
            assert (
                cached.get_data_info(idx)['instances']
                == plain.get_data_info(idx)['instances']
            )
    assert len(list(tmp_path.rglob('*.png'))) == 6


def test_cache_is_read(tmp_path, monkeypatch):
    first = build(4, cache_dir=tmp_path)
    images = [first.image(idx) for idx in range(4)]

    def fail(*_):
        raise AssertionError('rendered although cached')

    monkeypatch.setattr(GlyphScene, 'glyphs', fail)
    second = build(4, cache_dir=tmp_path)
    assert records(second) == records(first)
    assert all(np.array_equal(second.image(i), images[i]) for i in range(4))


def test_cached_path_is_an_ordinary_picture(tmp_path):
    dataset = build(2, cache_dir=tmp_path)
    image = dataset.image(1)
    assert np.array_equal(cv2.imread(dataset.get_data_info(1)['img_path']), image)


@pytest.mark.parametrize('damage', ['truncate', 'flip', 'empty', 'text'])
def test_damaged_cache_is_rebuilt(tmp_path, damage):
    first = build(3, cache_dir=tmp_path)
    expected = [first.image(idx) for idx in range(3)]
    files = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert len(files) == 4
    for path in files:
        content = bytearray(path.read_bytes())
        if damage == 'flip':
            content[len(content) // 2] ^= 1
        spoilt = {
            'truncate': content[: len(content) // 2],
            'flip': content,
            'empty': b'',
            'text': b'not what you think',
        }
        path.write_bytes(spoilt[damage])
    second = build(3, cache_dir=tmp_path)
    assert records(second) == records(first)
    for idx in range(3):
        assert np.array_equal(second.image(idx), expected[idx])
    # Mended on disk, too.
    third = build(3, cache_dir=tmp_path)
    assert third._cache.read_objects(3) is not None
    assert third._cache.read_image(2, 64) is not None


@pytest.mark.parametrize(
    'kwargs', [dict(seed=1), dict(imbalance_factor=7.0), dict(max_rotation=0.0)]
)
def test_other_arguments_use_another_cache(tmp_path, kwargs):
    build(2, cache_dir=tmp_path).image(0)
    other = build(2, cache_dir=tmp_path, **kwargs)
    assert np.array_equal(other.image(0), build(2, **kwargs).image(0))


@pytest.mark.parametrize('name', ['RENDERER_VERSION', 'LEAVES'])
def test_other_versions_use_another_cache(name, monkeypatch):
    before = content_key(seed=0)
    assert content_key(seed=0) == before
    monkeypatch.setattr(glyph_cache, name, {'LEAVES': LEAVES[1:]}.get(name, 99))
    assert content_key(seed=0) != before


def test_interrupted_write_leaves_no_file(tmp_path, monkeypatch):
    dataset = build(1, cache_dir=tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr('os.replace', interrupt)
    with pytest.raises(KeyboardInterrupt):
        dataset.image(0)
    monkeypatch.undo()
    assert not [p for p in tmp_path.rglob('*.png')]


def _fill(folder):
    dataset = build(8, cache_dir=folder)
    for idx in range(8):
        dataset.image(idx)


def test_two_processes_fill_one_cache(tmp_path):
    context = multiprocessing.get_context('fork')
    workers = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    dataset, plain = build(8, cache_dir=tmp_path), build(8)
    for idx in range(8):
        assert np.array_equal(dataset._cache.read_image(idx, 64), plain.image(idx))


# --- export -----------------------------------------------------------------------
def test_export_is_readable_by_the_host(tmp_path):
    dataset = build(5, label_format='sets')
    path = export_coco(dataset, tmp_path / 'out')
    host = DATASETS.build(
        dict(
            type='mmdet.CocoDataset',
            ann_file=str(path),
            data_prefix=dict(img=str(path.parent / 'images')),
            metainfo=dict(classes=CLASSES),
            test_mode=True,
            pipeline=[dict(type='LoadImageFromFile')],
        )
    )
    rows = build(5, label_format='rows')
    for idx in range(5):
        ours, theirs = rows.get_data_info(idx), host.get_data_info(idx)
        assert np.array_equal(host[idx]['img'], dataset.image(idx))
        assert (theirs['height'], theirs['width']) == (64, 64)

        def key(instance):
            return (instance['bbox_label'], *instance['bbox'])

        assert sorted(map(key, ours['instances'])) == sorted(
            map(key, theirs['instances'])
        )
    tree = json.loads((path.parent / 'hierarchy.json').read_text())
    assert tree['LabelName'] == 'Entity'


def test_export_keeps_the_true_labels():
    dataset = build(60, annotate='one', imbalance_factor=1.0)
    annotations = coco_content(dataset)['annotations']
    assert len({a['id'] for a in annotations}) == len(annotations)
    true = {a['category_id']: set(a['true_category_ids']) for a in annotations}
    alpha = LABEL['Α'] + 1
    assert true[alpha] == {LABEL[c] + 1 for c in 'AΑА'}
