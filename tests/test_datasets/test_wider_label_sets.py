"""Label sets stay what they are where a hierarchy appends classes."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset, ConcatDataset, MultiImageMixDataset
from mmengine.config import Config
from mmengine.dataset import ClassBalancedDataset, Compose, RepeatDataset
from mmengine.dataset import ConcatDataset as EngineConcatDataset
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import Subset

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_set_table import LabelSetTable
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.datasets.class_hierarchy import ClassHierarchyDataset
from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.datasets.glyphs import GlyphDataset
from mmdet_imbalance.datasets.lvis import LVISMultiLabelDataset
from mmdet_imbalance.datasets.object_centers import object_centers
from mmdet_imbalance.datasets.open_images import OpenImagesMultiLabelDataset
from mmdet_imbalance.models.losses.concurrent_softmax import ConcurrentSoftmaxLoss
from tests.helpers.open_images_files import line, write_files
from tests.helpers.tiny_run import write_config

CLASSES = ('cat', 'toy', 'car', 'dog', 'pet')
#: Parents by node; `thing` is the root and never a class, `pet` is one already.
PARENTS = {
    'animal': ['thing'],
    'object': ['thing'],
    'pet': ['animal'],
    'cat': ['pet'],
    'dog': ['pet'],
    'toy': ['object'],
    'vehicle': ['object'],
    'car': ['vehicle'],
}
ADDED = ('animal', 'object', 'vehicle')
NAMES = (*CLASSES, *ADDED)
#: Annotated sets; what one of them implies is annotated besides in the last two.
SETS = [('cat',), ('toy', 'car'), ('cat', 'toy'), ('dog', 'cat', 'toy'), ('car',)]
SETS += [('pet', 'dog'), ('pet', 'cat', 'toy')]
SIDE = 96
LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
]
PACK = dict(type='mmdet_imbalance.PackMultiLabelDetInputs')


def closed(names):
    """The names and everything above them, the root left out."""
    found = set(names)
    for name in names:
        found |= closed([up for up in PARENTS.get(name, []) if up != 'thing'])
    return found


def tree_file(folder):
    def node(name):
        below = [child for child, up in PARENTS.items() if name in up]
        inner = {'Subcategory': [node(child) for child in below]} if below else {}
        return {'LabelName': name, **inner}

    path = folder / 'tree.json'
    path.write_text(json.dumps(node('thing')))
    return path


def grey(number):
    return 40 + 30 * number


def write_annotation(folder, form='lvis', num_images=5, seed=0):
    """Grey boxes whose level is the number of their set in SETS, one row a label."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for i in range(num_images):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        for quarter, number in enumerate(
            rng.permutation(len(SETS))[: rng.integers(2, 5)]
        ):
            x = 48 * (quarter % 2) + int(rng.integers(2, 12))
            y, w, h = 48 * (quarter // 2) + 6, 28, int(rng.integers(24, 36))
            pixels[y : y + h, x : x + w] = grey(number)
            rows += [(i, CLASSES.index(n) + 1, [x, y, w, h]) for n in SETS[number]]
        Image.fromarray(pixels).save(folder / f'{i}.png')
        image = dict(id=i, file_name=f'{i}.png', width=SIDE, height=SIDE)
        if form == 'lvis':
            image |= dict(neg_category_ids=[3], not_exhaustive_category_ids=[])
        images.append(image)
    annotations = [
        dict(id=k + 1, image_id=i, category_id=c, bbox=box, area=box[2] * box[3])
        for k, (i, c, box) in enumerate(rows)
    ]
    categories = [
        dict(id=k + 1, name=name, frequency='rcfrc'[k])
        for k, name in enumerate(CLASSES)
    ]
    if form == 'lvis':
        for k, category in enumerate(categories):
            category['synset'] = f'{CLASSES[k]}.n.01'
    else:
        for annotation in annotations:
            annotation['iscrowd'] = 0
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / 'train.json').write_text(json.dumps(content))
    return folder


def annotated(folder):
    """By image, (box, names) of each object, read from the file row by row."""
    content = json.loads((folder / 'train.json').read_text())
    found = {image['id']: {} for image in content['images']}
    for row in content['annotations']:
        x, y, w, h = row['bbox']
        objects = found[row['image_id']]
        names = objects.setdefault((x, y, x + w, y + h), set())
        names.add(CLASSES[row['category_id'] - 1])
    return found


def plain(folder, pipeline=LOAD, **kwargs):
    return LVISMultiLabelDataset(
        ann_file='train.json',
        data_root=str(folder),
        pipeline=pipeline,
        metainfo=dict(classes=CLASSES),
        **kwargs,
    )


def wrap(dataset, folder, **kwargs):
    return ClassHierarchyDataset(
        dataset, tree_file(folder), add_ancestor_classes=True, **kwargs
    )


def check_record(record, metainfo, objects):
    """Each box decodes to its annotated labels, closed to those and all above."""
    names, matrix = metainfo['classes'], metainfo['ancestor_matrix']
    assert len(record['instances']) == len(objects)
    for instance in record['instances']:
        ids = np.array([instance['bbox_label']])
        hot = record['label_sets'].multi_hot(ids)
        assert hot.shape == (1, len(names))
        explicit = objects[tuple(map(int, instance['bbox']))]
        assert {names[c] for c in np.flatnonzero(hot)} == explicit
        above = np.flatnonzero((hot.astype(int) @ np.asarray(matrix).astype(int))[0])
        assert {names[c] for c in above} == closed(explicit)
        primary = names[record['label_sets'].primary(ids)[0]]
        assert not any(primary in closed([n]) for n in explicit - {primary})
        assert (len(explicit) == 1) == (ids[0] < len(CLASSES))
        assert not len(CLASSES) <= ids[0] < len(names)


@pytest.mark.parametrize('form', ['lvis', 'coco'])
@pytest.mark.parametrize('lazy', [False, True])
def test_label_sets_are_annotated_ones_closed_under_ancestors(tmp_path, form, lazy):
    folder = write_annotation(tmp_path, form)
    truth = annotated(folder)
    dataset = wrap(plain(folder, lazy_init=lazy), folder, lazy_init=lazy)
    # A record before anything else asks for the classes.
    record = dataset.get_data_info(2)
    check_record(record, dataset.metainfo, truth[record['img_id']])
    assert dataset.metainfo['classes'] == NAMES
    assert dataset.metainfo['freq_group'] == [*'rcfrc', '', '', '']
    for i in range(len(dataset)):
        record = dataset.get_data_info(i)
        check_record(record, dataset.metainfo, truth[record['img_id']])
        assert record['label_sets'] is LabelSetTable.shared(len(NAMES))


def test_counts_are_those_of_the_rows_and_of_what_they_imply(tmp_path):
    folder = write_annotation(tmp_path, num_images=9)
    objects = [
        names for found in annotated(folder).values() for names in found.values()
    ]
    dataset = wrap(plain(folder), folder)
    stats = class_stats_of(dataset, use_cache=False)
    for k, name in enumerate(NAMES):
        assert stats.instance_count[k] == sum(name in names for names in objects)
        assert stats.expanded_instance_count[k] == sum(
            name in closed(names) for names in objects
        )
    assert len(object_centers(dataset)[1]) == sum(map(len, objects))


# --- wrappers, copies, processes ------------------------------------------------------

WRAPPERS = {
    'repeat': lambda d: RepeatDataset(d, times=2),
    'balanced': lambda d: ClassBalancedDataset(d, oversample_thr=0.5),
    'concat': lambda d: EngineConcatDataset([d, d.get_subset([0, 1])]),
    'host concat': lambda d: ConcatDataset([d, d.get_subset([2])]),
    'mix': lambda d: MultiImageMixDataset(d, pipeline=[PACK]),
    'hierarchy': lambda d: ClassHierarchyDataset(d, tree_file(Path(d.data_root))),
}


def check_samples(dataset, num):
    """Each packed box's labels are those that its own pixels stand for."""
    checked = 0
    for i in range(num):
        packed = dataset[i]
        truth = packed['data_samples'].gt_instances
        assert truth.multi_labels.shape == (len(truth), len(NAMES))
        boxes = getattr(truth.bboxes, 'tensor', truth.bboxes).numpy()
        for box, label, hot in zip(
            boxes, truth.labels, truth.multi_labels, strict=True
        ):
            x1, y1, x2, y2 = box.round().astype(int)
            inside = packed['inputs'].numpy()[0, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
            if inside.size < 50 or np.ptp(inside) > 2:  # cut, or covered
                continue
            names = SETS[round((float(np.median(inside)) - 40) / 30)]
            assert {NAMES[c] for c in hot.nonzero().flatten()} == set(names)
            assert NAMES[label] in names
            checked += 1
    return checked


@pytest.mark.parametrize('name', WRAPPERS)
@pytest.mark.parametrize('inside', [False, True])
def test_it_stands_inside_and_around_every_wrapper(tmp_path, name, inside):
    init_default_scope('mmdet')
    folder = write_annotation(tmp_path)
    truth = annotated(folder)
    pipeline = LOAD if name == 'mix' else [*LOAD, PACK]
    dataset = plain(folder, pipeline)
    if inside:
        dataset = WRAPPERS[name](wrap(dataset, folder))
    else:
        dataset = wrap(WRAPPERS[name](dataset), folder)
    dataset.full_init()
    assert dataset.metainfo['classes'] == NAMES
    for i in range(len(dataset)):
        record = dataset.get_data_info(i)
        check_record(record, dataset.metainfo, truth[record['img_id']])
    assert check_samples(dataset, len(dataset)) > 5


def test_hierarchies_may_stand_in_each_other(tmp_path):
    folder = write_annotation(tmp_path)
    low = folder / 'low.json'
    pets = {
        'LabelName': 'pet',
        'Subcategory': [{'LabelName': n} for n in ('cat', 'dog')],
    }
    vehicle = {'LabelName': 'vehicle', 'Subcategory': [{'LabelName': 'car'}]}
    others = [{'LabelName': 'toy'}, vehicle, pets]
    low.write_text(json.dumps({'LabelName': 'thing', 'Subcategory': others}))
    inner = ClassHierarchyDataset(plain(folder), low, add_ancestor_classes=True)
    assert inner.metainfo['classes'] == (*CLASSES, 'vehicle')
    dataset = wrap(inner, folder)
    assert set(dataset.metainfo['classes']) == set(NAMES)
    truth = annotated(folder)
    for i in range(len(dataset)):
        record = dataset.get_data_info(i)
        check_record(record, dataset.metainfo, truth[record['img_id']])
        assert inner.get_data_info(i)['label_sets'].num_classes == len(NAMES)


def test_copies_and_other_processes_know_the_classes(tmp_path):
    folder = write_annotation(tmp_path)
    truth = annotated(folder)
    dataset = wrap(RepeatDataset(plain(folder), 2), folder)
    parts = [pickle.loads(pickle.dumps(dataset)), Subset(dataset, [3, 1])]
    direct = wrap(plain(folder), folder)
    parts += [direct.get_subset([3, 1])]
    for part in parts:
        for i in range(len(part)):
            record = getattr(part, 'get_data_info', part.__getitem__)(i)
            if 'instances' in record:
                check_record(record, dataset.metainfo, truth[record['img_id']])
            assert record['label_sets'].num_classes == len(NAMES)


STEPS = {
    'flip': dict(type='RandomFlip', prob=1.0),
    'crop': dict(type='RandomCrop', crop_size=(70, 70), allow_negative_crop=True),
    'resize': dict(type='Resize', scale=(150, 150)),
    'mosaic': dict(type='Mosaic', img_scale=(SIDE, SIDE), pad_val=0),
    'copy-paste': dict(type='CopyPaste', max_num_pasted=4, paste_by_box=True),
}


@pytest.mark.parametrize('name', STEPS)
def test_ids_survive_transforms_and_mixing(tmp_path, name):
    init_default_scope('mmdet')
    np.random.seed(0)
    # Two datasets: ids of both meet in one picture.
    folders = [write_annotation(tmp_path / k, seed=s) for s, k in enumerate('ab')]
    joined = wrap(ConcatDataset([plain(folder) for folder in folders]), tmp_path)
    dataset = MultiImageMixDataset(joined, pipeline=[STEPS[name], PACK])
    assert check_samples(dataset, len(joined)) > 5


# --- other datasets -------------------------------------------------------------------


@pytest.mark.parametrize('lazy', [False, True])
def test_open_images_moves_its_ids_before_and_after_loading(tmp_path, lazy):
    rows = [('/m/t', '/m/c'), ('/m/d',)]
    boxes = [(0.1, 0.1, 0.3, 0.3), (0.5, 0.5, 0.9, 0.9)]
    lines = [line('x', m, *b) for ms, b in zip(rows, boxes, strict=True) for m in ms]
    inner = OpenImagesMultiLabelDataset(**write_files(tmp_path, lines), lazy_init=lazy)
    below = [{'LabelName': m} for m in ('/m/t', '/m/c')]
    things = {'LabelName': '/m/x', 'Subcategory': below}
    animals = {'LabelName': '/m/a', 'Subcategory': [{'LabelName': '/m/d'}]}
    path = tmp_path / 'more.json'
    path.write_text(json.dumps({'LabelName': 'r', 'Subcategory': [things, animals]}))
    names = dict(Animal='/m/a', Dog='/m/d', Toy='/m/t', Car='/m/c', Thing='/m/x')
    dataset = ClassHierarchyDataset(
        inner, path, add_ancestor_classes=True, name_map=names, lazy_init=lazy
    )
    for data in (dataset, pickle.loads(pickle.dumps(dataset)), dataset.get_subset([0])):
        record = data.get_data_info(0)
        ids = np.array([row['bbox_label'] for row in record['instances']])
        hot = record['label_sets'].multi_hot(ids)
        assert [np.flatnonzero(row).tolist() for row in hot] == [[2, 3], [1]]
        assert hot.shape[1] == len(data.metainfo['classes']) == 5


def test_glyphs_move_their_own_ids_and_those_of_the_process(tmp_path):
    classes = [n for n in GlyphDataset(1).metainfo['classes'] if n.endswith(('A', 'a'))]
    inner = GlyphDataset(
        6, metainfo=dict(classes=classes), label_format='sets', imbalance_factor=1
    )
    below = [{'LabelName': name} for name in classes]
    path = tmp_path / 'glyphs.json'
    top = {'LabelName': 'glyph', 'Subcategory': below}
    path.write_text(json.dumps({'LabelName': 'root', 'Subcategory': [top]}))
    alone = [inner.get_data_info(i) for i in range(6)]
    dataset = ClassHierarchyDataset(inner, path, add_ancestor_classes=True)
    num = len(dataset.metainfo['classes'])
    assert num == len(classes) + 1
    found = 0
    for i in range(6):
        record = dataset.get_data_info(i)
        for row, before in zip(record['instances'], alone[i]['instances'], strict=True):
            is_set = len(row['multi_labels']) > 1
            assert row['bbox_label'] == before['bbox_label'] + is_set
            if is_set:
                own = dataset.metainfo['label_sets'][row['bbox_label'] - num]
                assert sorted(own) == row['multi_labels']
                found += 1
        dataset.pipeline = Compose([])
        shared = dataset[i]
        ids = np.array([row['bbox_label'] for row in shared['instances']], dtype=int)
        for row, hot in zip(
            shared['instances'], shared['label_sets'].multi_hot(ids), strict=True
        ):
            assert np.flatnonzero(hot).tolist() == row['multi_labels']
    assert found


# --- refused --------------------------------------------------------------------------


def foreign(folder, test_mode=False):
    inner = CocoDataset(
        ann_file=str(folder / 'train.json'),
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
        lazy_init=True,
        test_mode=test_mode,
    )
    inner.same_object_iou = 0.9
    return inner


def test_foreign_label_sets_are_refused_in_training_alone(tmp_path):
    folder = write_annotation(tmp_path, 'coco')
    metainfo = wrap(foreign(folder, True), folder, lazy_init=True).metainfo
    assert metainfo['classes'] == NAMES
    with pytest.raises(ValueError, match=r'CocoDataset are ids .*NumbersLabelSets'):
        wrap(foreign(folder), folder)
    with pytest.raises(ValueError, match='CocoDataset are ids'):
        wrap(RepeatDataset(foreign(folder), 2), folder)


def test_a_foreign_record_with_a_table_is_refused_when_it_comes(tmp_path):
    folder = write_annotation(tmp_path, 'coco')

    class Foreign(CocoDataset):
        def get_data_info(self, idx):
            table = LabelSetTable.shared(len(CLASSES))
            return dict(super().get_data_info(idx), label_sets=table)

    inner = Foreign(
        ann_file=str(folder / 'train.json'),
        data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES),
    )
    with pytest.raises(ValueError, match='Foreign are ids of label sets'):
        wrap(inner, folder).get_data_info(0)


def test_one_dataset_cannot_stand_in_two_lists_of_classes(tmp_path):
    folder = write_annotation(tmp_path)
    inner = plain(folder)
    first = wrap(inner, folder)
    assert wrap(inner, folder).metainfo == first.metainfo  # the same list again
    (tmp_path / 'other').mkdir()
    path = tmp_path / 'other' / 'tree.json'
    below = [{'LabelName': name} for name in CLASSES]
    top = {'LabelName': 'top', 'Subcategory': below}
    path.write_text(json.dumps({'LabelName': 'root', 'Subcategory': [top]}))
    with pytest.raises(ValueError, match='8 classes of another'):
        ClassHierarchyDataset(inner, path, add_ancestor_classes=True)
    assert first.get_data_info(2)['label_sets'].num_classes == len(NAMES)


# --- training -------------------------------------------------------------------------


def test_the_loss_closes_the_sets_over_the_added_classes(tmp_path):
    folder = write_annotation(tmp_path, num_images=8)
    dataset = wrap(plain(folder), folder)
    stats = class_stats_of(dataset, use_cache=False)
    assert isinstance(stats, ClassStats)
    loss = ConcurrentSoftmaxLoss(num_classes=len(NAMES))
    loss.set_class_stats(stats)
    explicit = torch.zeros(len(SETS), len(NAMES), dtype=torch.bool)
    full = explicit.clone()
    for k, names in enumerate(SETS):
        explicit[k, [NAMES.index(n) for n in names]] = True
        full[k, [NAMES.index(n) for n in closed(names)]] = True
    logits = torch.randn(
        len(SETS), len(NAMES) + 1, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.tensor([NAMES.index(names[-1]) for names in SETS])
    losses = [
        loss(
            logits,
            MultiLabelTarget(labels, torch.arange(len(SETS)), sets),
            reduction_override='none',
        )
        for sets in (explicit, full)
    ]
    torch.testing.assert_close(*losses)


def test_a_training_runs_through(tmp_path):
    folder = write_annotation(tmp_path / 'data')
    extra = f"""
num_classes = {len(NAMES)}
model['bbox_head'].update(
    type='mmdet_imbalance.ImbalanceRetinaHead',
    loss_cls=dict(
        _delete_=True,
        type='mmdet_imbalance.MultiLabelFocalLoss',
        num_classes=num_classes,
    ),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='mmdet_imbalance.ClassHierarchyDataset',
        hierarchy_file={str(tree_file(folder))!r},
        add_ancestor_classes=True,
        dataset=dict(
            type='mmdet_imbalance.LVISMultiLabelDataset',
            data_root=data_root,
            ann_file='train.json',
            metainfo=dict(classes={CLASSES!r}),
            pipeline=[
                *train_pipeline[:-1],
                dict(type='mmdet_imbalance.PackMultiLabelDetInputs'),
            ],
        ),
    ),
)
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
hook = 'mmdet_imbalance.ClassStatsHook'
custom_hooks = [dict(type=hook, cache_dir={str(tmp_path)!r})]
"""
    path = write_config(tmp_path, folder, extra, len(NAMES))
    cfg = Config.fromfile(str(path))
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = 'wider-label-sets'
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 3
    dataset = runner.train_dataloader.dataset
    ancestors = runner.model.bbox_head.loss_cls.ancestors
    np.testing.assert_array_equal(ancestors, dataset.metainfo['ancestor_matrix'])
    assert all(torch.isfinite(value).all() for value in runner.model.parameters())
