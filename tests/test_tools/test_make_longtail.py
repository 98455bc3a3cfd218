import csv
import json

import numpy as np
import pytest

from tests.helpers.tools import load_tool

CATEGORIES = [
    {'id': 3, 'name': 'cat', 'frequency': 'f', 'image_count': 0, 'instance_count': 0},
    {'id': 7, 'name': 'dog', 'frequency': 'f', 'image_count': 0, 'instance_count': 0},
    {'id': 8, 'name': 'pet', 'frequency': 'f', 'image_count': 0, 'instance_count': 0},
]


@pytest.fixture
def coco(tmp_path):
    """120 images of one cat; a third of them show a dog too, on a pet's box."""
    images, rows = [], []
    for i in range(120):
        images.append({'id': i, 'file_name': f'{i}.jpg', 'width': 9, 'height': 9})
        cats = [(3, [i, 0, 2, 2])]
        if i % 3 == 0:
            cats += [(7, [i, 4, 2, 2]), (8, [i, 4, 2, 2])]
        for category, box in cats:
            rows.append(
                {
                    'id': len(rows),
                    'image_id': i,
                    'category_id': category,
                    'bbox': box,
                    'area': 4,
                    'iscrowd': 0,
                }
            )
    path = tmp_path / 'all.json'
    path.write_text(
        json.dumps({'images': images, 'annotations': rows, 'categories': CATEGORIES})
    )
    return path


@pytest.fixture
def hierarchy(tmp_path):
    path = tmp_path / 'tree.json'
    path.write_text(
        json.dumps({'LabelName': 'pet', 'Subcategory': [{'LabelName': 'dog'}]})
    )
    return path


def run(source, *options):
    out = source.with_name('out' + source.suffix)
    code = load_tool('make_longtail').main(
        [str(source), '--out', str(out), *map(str, options)]
    )
    assert code == 0
    return json.loads(out.read_text()) if out.suffix == '.json' else out


def count(content):
    return {
        c['name']: sum(a['category_id'] == c['id'] for a in content['annotations'])
        for c in content['categories']
    }


def test_images_go_whole_and_the_counts_are_renewed(coco):
    content = run(coco, '--imbalance-factor', 30)
    num = count(content)
    # 120, then 40 by profile 120 / 30 ** (1 / 2) = 21.9, then 120 / 30 = 4.
    assert num == {'cat': num['cat'], 'dog': 4, 'pet': 4}
    assert num['cat'] == 80 + 4
    kept = {image['id'] for image in content['images']}
    assert {a['image_id'] for a in content['annotations']} == kept
    cat, dog, _ = content['categories']
    assert (cat['instance_count'], cat['image_count'], cat['frequency']) == (
        84,
        84,
        'c',
    )
    assert (dog['instance_count'], dog['frequency']) == (4, 'r')


def test_surplus_boxes_become_regions_to_ignore(coco):
    content = run(coco, '--imbalance-factor', 30, '--surplus', 'ignore')
    assert len(content['annotations']) == 200
    left = [a for a in content['annotations'] if not a['iscrowd']]
    assert sorted(count({**content, 'annotations': left}).values()) == [4, 21, 120]
    dropped = run(coco, '--imbalance-factor', 30, '--surplus', 'drop')
    assert sorted(count(dropped).values()) == [4, 21, 120]


def test_one_label_of_a_box_and_parents(coco, hierarchy):
    num = count(run(coco, '--keep-one-label'))
    assert num['cat'] == 120
    assert num['dog'] + num['pet'] == 40
    assert 8 < num['dog'] < 32
    num = count(run(coco, '--replace-by-parent', 1.0, '--hierarchy', hierarchy))
    assert num == {'cat': 120, 'dog': 0, 'pet': 80}


def test_fixed_per_class_writes_what_was_looked_at(coco):
    content = run(coco, '--fpc', 10)
    assert count(content) == {'cat': 10, 'dog': 10, 'pet': 10}
    absent = [c for image in content['images'] for c in image['neg_category_ids']]
    assert {c: absent.count(c) for c in (3, 7, 8)} == {3: 0, 7: 10, 8: 10}
    for image in content['images']:
        shown = {
            a['category_id']
            for a in content['annotations']
            if a['image_id'] == image['id']
        }
        assert not shown & set(image['neg_category_ids'])
        assert image['not_exhaustive_category_ids'] == []


def test_the_seed_decides_and_nothing_else(coco):
    options = ['--imbalance-factor', 30, '--label-noise', 0.3, '--rpa', 0.5]
    first = run(coco, *options, '--seed', 5)
    assert run(coco, *options, '--seed', 5) == first
    assert run(coco, *options, '--seed', 6) != first


def test_open_images_files_keep_their_columns(tmp_path, capsys):
    path = tmp_path / 'boxes.csv'
    lines = ['ImageID,Source,LabelName,XMin,XMax,YMin,YMax,IsGroupOf']
    for i in range(60):
        lines.append(f'i{i},x,/m/cat,0.1,0.2,0.1,0.2,0')
        if i % 4 == 0:
            lines.append(f'i{i},x,/m/dog,0.3,0.4,0.1,0.2,{int(i == 0)}')
    path.write_text('\n'.join(lines) + '\n')
    out = run(path, '--rpa', 0.5, '--seed', 1)
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == lines[0].split(',')
    labels = list(csv.DictReader(out.with_name('out-imagelabels.csv').open()))
    verified = {(r['ImageID'], r['LabelName']): r['Confidence'] for r in labels}
    assert 30 < len(verified) < 90
    boxes = {(r['ImageID'], r['LabelName']) for r in rows}
    assert boxes == {key for key, value in verified.items() if value == '1'}
    assert 'written' in capsys.readouterr().out


def test_a_noisy_label_is_not_listed_as_absent(coco):
    content = json.loads(coco.read_text())
    shown = {}
    for row in content['annotations']:
        shown.setdefault(row['image_id'], set()).add(row['category_id'])
    for image in content['images']:
        image['neg_category_ids'] = sorted({3, 7, 8} - shown[image['id']])
    coco.write_text(json.dumps(content))
    cut = run(coco, '--label-noise', 0.5)
    now = {}
    for row in cut['annotations']:
        now.setdefault(row['image_id'], set()).add(row['category_id'])
    listed = [set(image['neg_category_ids']) for image in cut['images']]
    before = [set(image['neg_category_ids']) for image in content['images']]
    assert listed != before
    for image, old, new in zip(cut['images'], before, listed, strict=True):
        assert new == old - now[image['id']]


def test_the_noise_hits_the_asked_fraction(coco):
    before = json.loads(coco.read_text())['annotations']
    after = run(coco, '--label-noise', 0.3)['annotations']
    wrong = np.mean(
        [
            a['category_id'] != b['category_id']
            for a, b in zip(before, after, strict=True)
        ]
    )
    assert abs(wrong - 0.3) < 0.1


@pytest.mark.parametrize(
    ('content', 'options', 'message'),
    [
        ('{', [], 'line 1: not valid JSON'),
        ('[]', [], 'not a COCO annotation'),
        (
            '{"images": [], "categories": [], "annotations": [{"image_id": 1}]}',
            [],
            'image or category that the file lacks',
        ),
        (None, ['--imbalance-factor', '0.1'], 'imbalance_factor'),
        (None, ['--rpa', '2'], 'drop_prob'),
        (None, ['--replace-by-parent', '1'], '--hierarchy'),
    ],
)
def test_bad_input_is_one_line(coco, capsys, content, options, message):
    if content is not None:
        coco.write_text(content)
    out = coco.with_name('out.json')
    code = load_tool('make_longtail').main([str(coco), '--out', str(out), *options])
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1
    assert not out.exists()


def test_broken_csv_names_the_line(tmp_path, capsys):
    path = tmp_path / 'boxes.csv'
    path.write_text('ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/x,0,1,0,1\na,/m/x\n')
    tool = load_tool('make_longtail')
    assert tool.main([str(path), '--out', str(tmp_path / 'o.csv')]) == 2
    assert 'line 3: 2 fields' in capsys.readouterr().err
    path.write_text('ImageID,XMin,XMax,YMin,YMax\n')
    assert tool.main([str(path), '--out', str(tmp_path / 'o.csv')]) == 2
    assert "['LabelName']" in capsys.readouterr().err
