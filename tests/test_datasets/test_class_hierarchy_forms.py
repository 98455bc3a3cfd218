"""The hierarchy stands beside every form of annotation that the host reads."""

import json

import numpy as np
import pytest
from mmdet.datasets import (
    CocoDataset,
    CrowdHumanDataset,
    Objects365V1Dataset,
    Objects365V2Dataset,
    VOCDataset,
)

from mmdet_imbalance.datasets.class_hierarchy import ClassHierarchyDataset
from mmdet_imbalance.datasets.class_stats import class_stats_of
from mmdet_imbalance.datasets.label_index import label_index

#: Boxes of the two images as (class, ignored), in x, y, width, height below.
BOX = [10, 10, 30, 20]


def write_tree(folder, classes):
    """Every class stands under `thing`, which stands under the root."""
    nodes = [{'LabelName': name} for name in classes]
    inner = {'LabelName': 'thing', 'Subcategory': nodes}
    path = folder / 'tree.json'
    path.write_text(json.dumps({'LabelName': 'root', 'Subcategory': [inner]}))
    return path


def coco_form(folder, kind, names):
    annotations = [
        dict(id=k + 1, image_id=k, category_id=k + 1, bbox=BOX, area=600, iscrowd=k)
        for k in range(2)
    ]
    content = dict(
        images=[dict(id=k, file_name=f'{k}.jpg', width=99, height=99) for k in (0, 1)],
        annotations=annotations,
        categories=[dict(id=k + 1, name=name) for k, name in enumerate(names)],
    )
    (folder / 'ann.json').write_text(json.dumps(content))
    return kind(
        ann_file=str(folder / 'ann.json'),
        data_prefix=dict(img=''),
        metainfo=dict(classes=tuple(names)),
    )


def coco(folder):
    return coco_form(folder, CocoDataset, ['cat', 'dog'])


def objects365_v1(folder):
    return coco_form(folder, Objects365V1Dataset, ['person', 'sneakers'])


def objects365_v2(folder):
    return coco_form(folder, Objects365V2Dataset, ['Person', 'Sneakers'])


def voc(folder):
    for name in ('JPEGImages', 'Annotations'):
        (folder / name).mkdir()
    for k, name in enumerate(('cat', 'dog')):
        (folder / 'Annotations' / f'{k}.xml').write_text(
            '<annotation><size><width>99</width><height>99</height></size><object>'
            f'<name>{name}</name><difficult>{k}</difficult><bndbox><xmin>11</xmin>'
            '<ymin>11</ymin><xmax>41</xmax><ymax>31</ymax></bndbox></object>'
            '</annotation>'
        )
    (folder / 'train.txt').write_text('0\n1\n')
    return VOCDataset(
        ann_file=str(folder / 'train.txt'),
        data_prefix=dict(sub_data_root=str(folder)),
        metainfo=dict(classes=('cat', 'dog')),
    )


def crowd_human(folder):
    boxes = dict(fbox=BOX, hbox=BOX, vbox=BOX)
    lines = [
        dict(ID='0', gtboxes=[dict(tag='person', **boxes)]),
        # What is no person is an ignored region of label -1.
        dict(ID='1', gtboxes=[dict(tag='mask', **boxes)]),
    ]
    (folder / 'train.odgt').write_text('\n'.join(map(json.dumps, lines)))
    (folder / 'sizes.json').write_text(json.dumps({'0': [99, 99], '1': [99, 99]}))
    return CrowdHumanDataset(
        data_root=str(folder),
        ann_file='train.odgt',
        extra_ann_file=str(folder / 'sizes.json'),
        data_prefix=dict(img=''),
    )


FORMS = {
    'coco': coco,
    'objects365 v1': objects365_v1,
    'objects365 v2': objects365_v2,
    'voc': voc,
    'crowdhuman': crowd_human,
}


@pytest.mark.parametrize('name', FORMS)
def test_same_fields_for_every_form(tmp_path, name):
    plain = FORMS[name](tmp_path)
    classes = tuple(plain.metainfo['classes'])
    tree = write_tree(tmp_path, classes)
    dataset = ClassHierarchyDataset(plain, tree, add_ancestor_classes=True)
    metainfo = dataset.metainfo
    assert metainfo['classes'] == (*classes, 'thing')
    expected = np.eye(len(classes) + 1, dtype=bool)
    expected[:, -1] = True
    np.testing.assert_array_equal(metainfo['ancestor_matrix'], expected)
    assert [dataset.get_data_info(i) for i in range(2)] == [
        plain.get_data_info(i) for i in range(2)
    ]
    box = dataset.get_data_info(0)['instances'][0]['bbox']
    assert np.allclose(box, [10, 10, 40, 30])
    index = label_index(dataset)
    assert index.num_images == 2
    assert index.labels[:1].tolist() == [0]
    assert not index.ignored[0]
    assert index.ignored[1:].all()
    stats = class_stats_of(dataset, tmp_path / 'cache')
    assert stats.instance_count.sum() == stats.img_count[0] == 1
    assert stats.expanded_img_count[-1] == 1
    assert ''.join(stats.freq_group[[0, -1]]) == 'rr'
