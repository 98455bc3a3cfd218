"""tools/recommend.py on files that are legal, or nearly, and not as others are."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.helpers.tools import load_tool

NAMES = ['ant', 'bee', 'cat', 'dog']


def content_of(order=(0, 1, 2, 3), names=NAMES):
    """Class k has k + 1 boxes on images of its own; categories in the given order."""
    images, annotations = [], []
    for label, name in enumerate(names):
        for _ in range(label + 1):
            images.append(
                dict(id=len(images), file_name=f'{name}.png', width=64, height=48)
            )
            annotations.append(
                dict(
                    id=len(images),
                    image_id=images[-1]['id'],
                    category_id=10 * label + 3,
                    bbox=[4, 4, 20, 10],
                    area=200,
                    iscrowd=0,
                )
            )
    categories = [dict(id=10 * k + 3, name=names[k]) for k in order]
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write


def recommend_tool(*argv):
    return load_tool('recommend').main(
        [str(arg) for arg in (*argv, '--out', 'made.py')]
    )


def counts(loader):
    """Boxes of each class name, as the dataset of a config counts them."""
    from mmdet.registry import DATASETS

    init_default_scope('mmdet')
    dataset = DATASETS.build({**loader.dataset, 'pipeline': []})
    names = dataset.metainfo['classes']
    labels = [
        instance['bbox_label']
        for k in range(len(dataset))
        for instance in dataset.get_data_info(k)['instances']
    ]
    found = np.bincount(labels, minlength=len(names)).tolist()
    return dict(zip(names, found, strict=True))


EXPECTED = dict(zip(NAMES, [1, 2, 3, 4], strict=True))


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
@pytest.mark.parametrize('val_order', [(0, 1, 2, 3), (1, 3, 0, 2)])
def test_boxes_have_the_names_of_the_file_whatever_its_order(order, val_order, write):
    train = write('train.json', content_of(order))
    val = write('val.json', content_of(val_order))
    assert recommend_tool(train, '--val', val) == 0
    cfg = Config.fromfile('made.py')
    assert counts(cfg.train_dataloader) == EXPECTED
    assert counts(cfg.val_dataloader) == EXPECTED
    # The host's own reader does where both files have one order.
    is_own = 'LVISMultiLabelDataset' in cfg.train_dataloader.dataset.type
    assert is_own == (order != val_order)


@pytest.mark.parametrize(
    'odd', ['class', 'None', 'ﬁsh', "it's", 'a b'], ids=lambda name: ascii(name)
)
def test_class_names_that_are_no_argument_of_python(odd, write):
    # One odd name at a time: any of them changes how all are written.
    names = [*NAMES, odd]
    content = content_of(range(5), names)
    for k, category in enumerate(content['categories']):
        category['synset'] = f'n{k}'
    tree = write(
        'tree.json',
        dict(
            LabelName='n0',
            Subcategory=[dict(LabelName=f'n{k}') for k in range(1, 5)],
        ),
    )
    assert recommend_tool(write('a.json', content), '--hierarchy', tree) == 0
    dataset = Config.fromfile('made.py').train_dataloader.dataset
    assert dict(dataset.name_map) == {name: f'n{k}' for k, name in enumerate(names)}
    assert list(dataset.dataset.metainfo.classes) == names


def test_boxes_that_no_training_sees_are_counted_apart(write, capsys):
    content = content_of()
    boxes = [[4, 4, 0, 10], [4, 4, 0.5, 10], [90, 4, 20, 10], [-30, 4, 20, 10]]
    for k, box in enumerate([*boxes, [float('nan')] * 4]):
        row = content['annotations'][-1]
        content['annotations'].append({**row, 'id': 100 + k, 'bbox': box})
    assert recommend_tool(write('a.json', content)) == 0
    assert '5 annotations of' in capsys.readouterr().out
    assert '10 objects' in Path('made.py').read_text()
    assert counts(Config.fromfile('made.py').train_dataloader) == EXPECTED


def change(path, **values):
    def apply(content):
        place = content
        for key in path:
            place = place[key]
        for key, value in values.items():
            if value is None:
                del place[key]
            else:
                place[key] = value

    return apply


@pytest.mark.parametrize(
    ('broken', 'expected'),
    [
        (change(['images', 2], width=None), 'image 2 has no `width`'),
        (change(['images', 2], height=0), 'image 2 has no `height`'),
        (change(['images', 2], file_name=None), 'neither `file_name` nor'),
        (change(['images', 2], id=1), 'several images have the id 1'),
        (change(['categories', 2], id=3), 'several categories have the id 3'),
        (change(['categories', 2], name=None), 'image or category lacks a field'),
        (change(['categories', 2], name='{{ fileDirname }}'), 'rename it'),
        (change(['categories', 2], name='_delete_'), 'rename it'),
        (change(['categories', 2], name=7), 'the name 7'),
        (change(['annotations', 2], bbox=[1, 2, 3]), 'an annotation has no box'),
    ],
)
def test_what_no_training_can_use_is_named(broken, expected, write, capsys):
    content = content_of()
    broken(content)
    assert recommend_tool(write('a.json', content)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert 'a.json' in line
    assert expected in line
    assert not Path('made.py').exists()


def test_boxes_without_any_area_are_refused(write, capsys):
    content = content_of()
    for row in content['annotations']:
        row['bbox'][2] = 0
    assert recommend_tool(write('a.json', content)) == 2
    assert 'no box has an area inside its image' in capsys.readouterr().err


@pytest.mark.parametrize('tool', ['test', 'retrain_head'])
def test_a_config_without_validation_says_how_to_get_one(tool, write, capsys):
    assert recommend_tool(write('a.json', content_of())) == 0
    Path('made.pth').write_bytes(b'')
    argv = ['made.py', 'made.pth', '--work-dir', 'run']
    assert load_tool(tool).main(argv) == 2
    assert '--val' in capsys.readouterr().err.splitlines()[-1]
