"""Every surviving box keeps its label set through the host's transforms."""

import random

import numpy as np
import pytest
import torch
from mmdet.datasets import ConcatDataset, MultiImageMixDataset
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmdet_imbalance.core.label_set_table import LabelSetTable
from mmdet_imbalance.datasets.open_images import OpenImagesMultiLabelDataset
from mmdet_imbalance.datasets.transforms.merge_image_facts import MergeImageFacts
from mmdet_imbalance.datasets.transforms.pack_multi_label import (
    PackMultiLabelDetInputs,
)
from tests.helpers.open_images_files import line, write_files

ANIMAL, DOG, TOY, CAR = range(4)
#: A box's grey level says which labels it bears, whatever happens to the picture.
OBJECTS = [(60, (DOG,)), (110, (TOY, CAR)), (160, (DOG, TOY)), (210, (ANIMAL, CAR))]
MIDS = ['/m/a', '/m/d', '/m/t', '/m/c']
SIDE = 96


def write_split(folder, num=3, seed=0):
    """Pictures of four grey boxes, one in each quarter, annotated by their labels."""
    (folder / 'img').mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines, facts = [], []
    for k in range(num):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        for at, (level, labels) in enumerate(OBJECTS):
            x, y = 48 * (at % 2) + rng.integers(2, 12), 48 * (at // 2) + 6
            w, h = rng.integers(24, 32), rng.integers(24, 32)
            pixels[y : y + h, x : x + w] = level
            box = [v / SIDE for v in (x, y, x + w, y + h)]
            lines += [line(f'{folder.name}{k}', MIDS[label], *box) for label in labels]
        Image.fromarray(pixels).save(folder / 'img' / f'{folder.name}{k}.png')
        facts.append(f'{folder.name}{k},v,/m/a,1')
    return OpenImagesMultiLabelDataset(
        **write_files(folder, lines, facts),
        data_prefix=dict(img=str(folder / 'img')),
        img_suffix='.png',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True),
        ],
    )


@pytest.fixture
def data(tmp_path):
    return write_split(tmp_path / 'a')


def check(packed):
    """Each box's labels are those that its own pixels stand for."""
    image = packed['inputs'].numpy()[0]
    truth = packed['data_samples'].gt_instances
    boxes = truth.bboxes
    boxes = getattr(boxes, 'tensor', boxes).numpy()
    checked = 0
    for box, label, hot in zip(boxes, truth.labels, truth.multi_labels, strict=True):
        x1, y1, x2, y2 = box.round().astype(int)
        inside = image[max(y1 + 2, 0) : y2 - 2, max(x1 + 2, 0) : x2 - 2]
        if min(x2 - x1, y2 - y1) < 8 or inside.size == 0:
            continue
        level = np.median(inside)
        distance = [abs(float(level) - value) for value, _ in OBJECTS]
        if min(distance) > 12:  # covered by another picture
            continue
        labels = OBJECTS[int(np.argmin(distance))][1]
        assert np.flatnonzero(hot).tolist() == sorted(labels)
        assert int(label) in labels
        checked += 1
    return checked


STEPS = {
    'RandomFlip': dict(prob=1.0, direction=['horizontal', 'vertical']),
    'RandomCrop': dict(crop_size=(70, 70), allow_negative_crop=True),
    'MinIoURandomCrop': dict(min_crop_size=0.3),
    'RandomAffine': dict(border_val=(0, 0, 0), max_shear_degree=0),
    'Expand': dict(mean=(0, 0, 0), prob=1.0),
    'Resize': dict(scale=(150, 150)),
    'FilterAnnotations': dict(min_gt_bbox_wh=(27, 27), keep_empty=False),
}


@pytest.mark.parametrize('name', STEPS)
def test_label_sets_survive(data, name):
    seed(0)
    step = TRANSFORMS.build(dict(type=f'mmdet.{name}', **STEPS[name]))
    pack = PackMultiLabelDetInputs()
    checked = 0
    for index in [0, 1, 2] * 5:
        results = step(data[index])
        if results is not None:
            checked += check(pack(results))
    assert checked > 5


MIXES = {
    'Mosaic': dict(img_scale=(SIDE, SIDE), center_ratio_range=(0.8, 1.2), pad_val=0),
    'MixUp': dict(img_scale=(SIDE, SIDE), ratio_range=(1.0, 1.0), flip_ratio=0.5),
    'CopyPaste': dict(max_num_pasted=4, paste_by_box=True),
}


@pytest.mark.parametrize('name', MIXES)
@pytest.mark.parametrize('wrapped', [False, True])
def test_label_sets_survive_mixing(data, tmp_path, name, wrapped):
    seed(1)
    # Two datasets: ids of both meet in one picture.
    joined = dict(type='mmdet.ConcatDataset', datasets=[])
    joined = ConcatDataset([data, write_split(tmp_path / 'b', seed=7)])
    mix = dict(type=f'mmdet.{name}', **MIXES[name])
    if wrapped:
        mix = dict(type='mmdet_imbalance.MergeImageFacts', transform=mix)
    dataset = MultiImageMixDataset(
        _AsDataset(joined),
        pipeline=[mix, dict(type='mmdet_imbalance.PackMultiLabelDetInputs')],
    )
    if name == 'MixUp':  # it blends pictures: only the labels can be compared
        packed = [dataset[i % 6]['data_samples'].gt_instances for i in range(12)]
        found = {tuple(np.flatnonzero(h)) for t in packed for h in t.multi_labels}
        assert found == {labels for _, labels in OBJECTS}
        assert max(len(truth) for truth in packed) > 4
        return
    checked = sum(check(dataset[i % 6]) for i in range(12))
    assert checked > 30


class _AsDataset(OpenImagesMultiLabelDataset):
    """Lets the host's wrapper take a joined dataset, as a config would."""

    def __init__(self, joined):
        self.joined = joined

    metainfo = property(lambda self: self.joined.metainfo)

    def __len__(self):
        return len(self.joined)

    def full_init(self):
        pass

    def __getitem__(self, index):
        return self.joined[index % len(self)]


def seed(value):
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


# --- facts -----------------------------------------------------------------------


def results_with(k, **facts):
    from mmdet.structures.bbox import HorizontalBoxes

    return dict(
        img=np.zeros((SIDE, SIDE, 3), np.uint8),
        img_shape=(SIDE, SIDE),
        gt_bboxes=HorizontalBoxes(torch.tensor([[5.0, 5, 90, 90]])),
        gt_bboxes_labels=np.array([k]),
        gt_ignore_flags=np.zeros(1, bool),
        **facts,
    )


@pytest.mark.parametrize('name', ['Mosaic', 'MixUp'])
def test_facts_of_all_parts_are_merged(name):
    seed(0)
    step = MergeImageFacts(dict(type=f'mmdet.{name}', **MIXES[name]))
    main = results_with(0, verified_pos=[0], verified_neg=[1, 2], not_exhaustive=[])
    other = results_with(1, verified_pos=[1], verified_neg=[0, 2], not_exhaustive=[1])
    num = 3 if name == 'Mosaic' else 1
    mixed = step({**main, 'mix_results': [other] * num})
    assert mixed['verified_pos'] == [0, 1]
    assert mixed['verified_neg'] == [2]
    assert mixed['not_exhaustive'] == [1]


@pytest.mark.parametrize('name', ['CachedMosaic', 'CachedMixUp'])
def test_facts_of_kept_images_are_merged(name):
    seed(0)
    kwargs = dict(img_scale=(SIDE, SIDE), max_cached_images=8, prob=1.0)
    if name == 'CachedMixUp':
        kwargs['ratio_range'] = (1.0, 1.0)
    step = MergeImageFacts(dict(type=f'mmdet.{name}', **kwargs))
    assert not hasattr(step, 'get_indexes')
    seen = set()
    for k in range(12):
        facts = dict(verified_pos=[k], verified_neg=[50, 51 + k], not_exhaustive=[])
        mixed = step(results_with(k, **facts))
        present = set(mixed['gt_bboxes_labels'].tolist())
        assert present <= set(mixed['verified_pos'])
        if len(mixed['verified_pos']) > 1:
            assert mixed['verified_neg'] == [50]
            seen |= present
    assert len(seen) > 5


def test_only_mixing_transforms_are_taken():
    with pytest.raises(ValueError, match='RandomFlip has no'):
        MergeImageFacts(dict(type='mmdet.RandomFlip', prob=0.5))


# --- packing ---------------------------------------------------------------------


def test_ignored_objects_are_packed_apart(tmp_path):
    lines = [line('x', '/m/d', group=1), line('x', '/m/t', 0.3), line('x', '/m/c', 0.3)]
    Image.new('RGB', (20, 20)).save(tmp_path / 'x.jpg')
    data = OpenImagesMultiLabelDataset(
        **write_files(tmp_path, lines),
        data_prefix=dict(img=str(tmp_path)),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True),
            dict(type='mmdet_imbalance.PackMultiLabelDetInputs'),
        ],
    )
    sample = data[0]['data_samples']
    assert sample.gt_instances.labels.tolist() == [TOY]
    assert sample.gt_instances.multi_labels.tolist() == [[False, False, True, True]]
    assert sample.gt_instances.multi_labels.dtype == torch.bool
    assert sample.ignored_instances.labels.tolist() == [DOG]
    assert sample.not_exhaustive == [DOG]


def test_packing_without_sets_is_the_host(data):
    results = data[0]
    del results['label_sets']
    results['gt_bboxes_labels'] = np.array([0, 1, 2, 3])
    packed = PackMultiLabelDetInputs()(dict(results))['data_samples']
    assert 'multi_labels' not in packed.gt_instances
    packed = PackMultiLabelDetInputs(num_classes=4)(dict(results))['data_samples']
    assert packed.gt_instances.multi_labels.int().tolist() == np.eye(4).tolist()
    results['gt_bboxes_labels'] = np.array([4, 1, 2, 3])
    given = PackMultiLabelDetInputs(num_classes=4, label_sets=[[2, 0]])
    truth = given(dict(results))['data_samples'].gt_instances
    assert truth.labels[0] == 2
    assert truth.multi_labels[0].tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match='num_classes'):
        PackMultiLabelDetInputs(label_sets=[[0, 1]])


def test_id_of_another_table_is_refused(data):
    results = data[0]
    results['label_sets'] = LabelSetTable(4)
    with pytest.raises(ValueError, match='neither one of 4 classes'):
        PackMultiLabelDetInputs()(results)
