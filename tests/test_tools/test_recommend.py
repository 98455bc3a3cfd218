"""tools/recommend.py: laws of the rules, configs that train, bad input in one line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmdet_imbalance.recommendation.profile import gini, make_profile
from mmdet_imbalance.recommendation.rules import recommend, repeat_threshold
from mmdet_imbalance.recommendation.source import read_source
from tests.helpers.config_files import walk
from tests.helpers.shrunken_configs import shrink_model
from tests.helpers.tools import load_tool

SIDE = 64
OURS = 'mmdet_imbalance.'


@pytest.fixture(autouse=True)
def _in_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMDET_IMBALANCE_TRACEBACK', raising=False)


def recommend_tool(*argv: str | Path) -> int:
    return load_tool('recommend').main([str(arg) for arg in argv])


def write_coco(path: Path, images: list[list], categories: list[dict] | None = None):
    """Write a COCO file; an image is a list of (class, place) or classes in a row.

    Two boxes of one place are the same box.
    """
    rows, records = [], []
    num = 1 + max(
        (b if isinstance(b, int) else b[0]) for boxes in images for b in boxes
    )
    for i, boxes in enumerate(images):
        records.append(dict(id=i + 1, file_name=f'{i}.png', width=SIDE, height=SIDE))
        for at, box in enumerate(boxes):
            label, place = (box, at) if isinstance(box, int) else box
            # Sixteen places; further boxes lie a pixel beside those before them.
            turn, cell = divmod(place, 16)
            x = 2 + 15 * (cell % 4) + turn % 3
            y = 2 + 15 * (cell // 4) + turn // 3
            rows.append(
                dict(
                    id=len(rows) + 1,
                    image_id=i + 1,
                    category_id=label + 1,
                    bbox=[x, y, 12, 12],
                    area=144,
                    iscrowd=0,
                )
            )
    categories = categories or [dict(id=k + 1, name=f'class {k}') for k in range(num)]
    content = dict(images=records, annotations=rows, categories=categories)
    path.write_text(json.dumps(content))
    return path


def profile_of(path: Path, matrix=None, **more):
    return make_profile(read_source(path, **more), matrix)


def recipe_of(path: Path, base: str = 'faster-rcnn', matrix=None):
    source = read_source(path)
    return recommend(make_profile(source, matrix), base, source.kind, 12)


BALANCED = [[0, 1, 2, 3]] * 20
# Each class on images of its own: drawing images can balance it.
TAIL = [[0]] * 200 + [[1]] * 60 + [[2]] * 8 + [[3]] * 2
#: A hundred objects of class 0 for one of class 1, and both on every image.
CROWDED = [[0] * 100 + [1]] * 20
LABEL_SETS = [[(0, 0), (1, 0), (2, 1), (3, 2)]] * 20


# --- figures --------------------------------------------------------------------------
@pytest.mark.parametrize('seed', range(3))
def test_gini_is_the_mean_difference_over_twice_the_mean(seed):
    counts = np.random.default_rng(seed).integers(0, 50, 7)
    differences = [abs(int(a) - int(b)) for a in counts for b in counts]
    expected = np.mean(differences) / (2 * counts.mean())
    assert gini(counts) == pytest.approx(expected)
    assert gini(np.array([5, 5, 5])) == 0
    assert gini(np.array([0, 0, 9])) == pytest.approx(2 / 3)


def test_figures_of_a_profile_are_counted(tmp_path):
    images = [*LABEL_SETS[:3], [], [2]]
    profile = profile_of(write_coco(tmp_path / 'a.json', images))
    assert profile.stats.num_images == 5
    assert profile.num_empty == 1
    assert profile.num_objects == 3 * 3 + 1
    assert profile.num_several == profile.num_unrelated == 3
    assert profile.stats.instance_count.tolist() == [3, 3, 4, 3]
    assert profile.stats.pair_values.tolist() == [3]
    assert profile.box_size == pytest.approx(12 / SIDE)
    # Class 1 above class 0: the set is one line of ancestors.
    matrix = np.eye(4, dtype=bool)
    matrix[0, 1] = True
    profile = profile_of(tmp_path / 'a.json', matrix)
    assert (profile.num_several, profile.num_unrelated) == (3, 0)
    assert profile.num_related == 1


def test_sampling_gain_is_one_where_all_images_are_alike(tmp_path):
    alike = profile_of(write_coco(tmp_path / 'a.json', CROWDED))
    assert alike.sampling_gain(1.0) == pytest.approx(1)
    apart = profile_of(write_coco(tmp_path / 'b.json', TAIL))
    assert apart.sampling_gain(0.1) > 1.5
    # Nothing is below the threshold.
    assert apart.sampling_gain(0.001) == 1


def test_the_threshold_is_that_of_lvis_on_lvis():
    assert repeat_threshold(100_000) == pytest.approx(0.001)
    assert repeat_threshold(300) == 0.1
    assert repeat_threshold(10**7) == 0.001


# --- laws of the rules ----------------------------------------------------------------
@pytest.mark.parametrize('base', ['faster-rcnn', 'retinanet'])
def test_balanced_data_keep_the_stock_config(base, tmp_path):
    recipe = recipe_of(write_coco(tmp_path / 'a.json', BALANCED), base)
    assert recipe.is_stock
    assert 'too small' in recipe.notes[0]


@pytest.mark.parametrize('base', ['faster-rcnn', 'retinanet'])
def test_a_tail_by_images_is_sampled_and_not_weighed_too(base, tmp_path):
    recipe = recipe_of(write_coco(tmp_path / 'a.json', TAIL), base)
    assert recipe.sampler == dict(type=OURS + 'RepeatFactorSampler', oversample_thr=0.1)
    assert recipe.loss is None
    assert recipe.reasons['sampler']


@pytest.mark.parametrize(
    ('base', 'loss'),
    [
        ('faster-rcnn', 'ClassBalancedSoftmaxLoss'),
        ('retinanet', 'ClassBalancedFocalLoss'),
    ],
)
def test_a_tail_that_no_image_can_balance_is_weighed(base, loss, tmp_path):
    recipe = recipe_of(write_coco(tmp_path / 'a.json', CROWDED), base)
    assert recipe.sampler is None
    assert recipe.loss['type'] == OURS + loss
    # An object must keep its weight beside the background.
    assert recipe.loss['class_weight']['normalize'] == 'object'


def test_a_rare_class_among_crowds_is_weighed(tmp_path):
    # One class on few images, which are as full of the others as all images are: its
    # images cannot be repeated without repeating the crowd.
    images = [[0] * 20] * 19 + [[0] * 20 + [1]]
    crowded = profile_of(write_coco(tmp_path / 'a.json', images))
    alone = profile_of(write_coco(tmp_path / 'b.json', [[0] * 20] * 19 + [[1]]))
    assert crowded.sampling_gain(0.1) < alone.sampling_gain(0.1)


def test_an_extreme_tail_gets_the_hybrid_schedule(tmp_path):
    images = [[0]] * 1000 + [[1]]
    recipe = recipe_of(write_coco(tmp_path / 'a.json', images))
    assert recipe.sampler['type'] == OURS + 'SoftBalanceSampler'
    assert recipe.sampler['schedule'] == [(0, 0.0), (8, 0.7)]


@pytest.mark.parametrize(
    ('base', 'loss', 'head'),
    [
        ('faster-rcnn', 'ConcurrentSoftmaxLoss', 'ImbalanceRoIHead'),
        ('retinanet', 'MultiLabelFocalLoss', 'ImbalanceRetinaHead'),
    ],
)
def test_label_sets_are_kept_and_do_not_compete(base, loss, head, tmp_path):
    recipe = recipe_of(write_coco(tmp_path / 'a.json', LABEL_SETS), base)
    assert recipe.loss['type'] == OURS + loss
    assert recipe.head == OURS + head
    assert recipe.keeps_label_sets


def test_a_few_equal_boxes_are_no_label_sets(tmp_path):
    images = [*BALANCED * 10, [(0, 0), (1, 0)]]
    recipe = recipe_of(write_coco(tmp_path / 'a.json', images))
    assert recipe.is_stock
    assert any('too few' in note for note in recipe.notes)


def test_a_tree_among_the_classes_changes_the_loss_only(tmp_path):
    matrix = np.eye(4, dtype=bool)
    matrix[1, 0] = True
    recipe = recipe_of(write_coco(tmp_path / 'a.json', BALANCED), matrix=matrix)
    assert recipe.loss['type'] == OURS + 'ConcurrentSoftmaxLoss'
    assert recipe.head is None
    assert not recipe.keeps_label_sets


def federate(path: Path, absent_of: dict[int, list[int]]) -> Path:
    content = json.loads(path.read_text())
    for record in content['images']:
        record['neg_category_ids'] = absent_of.get(record['id'], [])
        record['not_exhaustive_category_ids'] = []
    path.write_text(json.dumps(content))
    return path


def test_open_entries_ask_for_a_partial_loss(tmp_path):
    images = [[0], [1], [2], [3]] * 5
    path = write_coco(tmp_path / 'a.json', images)
    assert recipe_of(path).is_stock
    recipe = recipe_of(federate(path, {1: [2, 3]}))
    assert recipe.loss['type'] == OURS + 'ClassAwareSelectiveLoss'
    assert recipe.carries_facts
    # The same fields, but every class was looked for on every image.
    absent = {
        i + 1: [c + 1 for c in range(4) if c not in boxes]
        for i, boxes in enumerate(images)
    }
    recipe = recipe_of(federate(path, absent))
    assert recipe.is_stock
    assert any('decided' in note for note in recipe.notes)


def test_many_open_classes_are_federated(tmp_path):
    images = [[k] for k in range(120)] * 2
    path = federate(write_coco(tmp_path / 'a.json', images), {})
    assert recipe_of(path).loss['type'] == OURS + 'FederatedLoss'


def test_weights_join_another_loss(tmp_path):
    images = [[*row, (2, 50), (3, 50), (2, 51), (3, 51)] for row in CROWDED]
    recipe = recipe_of(write_coco(tmp_path / 'a.json', images * 10))
    assert recipe.loss['class_weight']['type'] == 'effective_num'
    assert recipe.sampler is None


# --- the config -----------------------------------------------------------------------
def config_of(path: Path, *argv: str | Path) -> Config:
    assert recommend_tool(path, '--out', 'made.py', *argv) == 0
    return Config.fromfile('made.py')


def test_every_change_has_its_reason_beside_it(tmp_path):
    config_of(write_coco(tmp_path / 'a.json', TAIL))
    lines = Path('made.py').read_text().splitlines()
    (at,) = [k for k, line in enumerate(lines) if 'RepeatFactorSampler' in line]
    assert lines[at - 1].lstrip().startswith('#')
    assert 'Classes differ 100:1' in Path('made.py').read_text()
    assert max(map(len, lines)) <= 88


def test_no_absolute_path_is_written(tmp_path):
    folder = tmp_path / 'data'
    folder.mkdir()
    write_coco(folder / 'train.json', TAIL)
    write_coco(folder / 'val.json', BALANCED)
    argv = ['--val', folder / 'val.json', '--image-root', folder]
    cfg = config_of(folder / 'train.json', '--data-root', folder, *argv)
    text = Path('made.py').read_text()
    assert str(tmp_path) not in text
    assert cfg.data_root == 'data/'
    assert cfg.val_dataloader.dataset.ann_file == 'val.json'


def test_stock_data_give_the_stock_model(tmp_path):
    cfg = config_of(write_coco(tmp_path / 'a.json', BALANCED), '--backbone', 'r50')
    Path('base.py').write_text("_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'")
    base = Config.fromfile('base.py')
    base.model.roi_head.bbox_head.num_classes = 4
    assert cfg.model.to_dict() == base.model.to_dict()


def test_supercategories_make_a_tree(tmp_path):
    names = [('fish', 'animal'), ('shark', 'fish'), ('chair', 'thing'), ('animal', '')]
    categories = [
        dict(id=k + 1, name=name, supercategory=above)
        for k, (name, above) in enumerate(names)
    ]
    path = write_coco(tmp_path / 'a.json', BALANCED, categories)
    cfg = config_of(path)
    dataset = cfg.train_dataloader.dataset
    assert dataset.type == OURS + 'ClassHierarchyDataset'
    init_default_scope('mmdet')
    from mmdet.registry import DATASETS

    built = DATASETS.build(dataset)
    matrix = np.asarray(built.metainfo['ancestor_matrix'])
    order = built.metainfo['classes']
    related = {(order[a], order[b]) for a, b in np.argwhere(matrix) if a != b}
    assert related == {('fish', 'animal'), ('shark', 'fish'), ('shark', 'animal')}
    cfg = config_of(path, '--ignore-supercategories')
    assert cfg.train_dataloader.dataset.type == 'CocoDataset'


def test_one_supercategory_above_all_is_no_tree(tmp_path):
    categories = [
        dict(id=k + 1, name=f'class {k}', supercategory='dataset') for k in range(4)
    ]
    source = read_source(write_coco(tmp_path / 'a.json', BALANCED, categories))
    assert source.supercategories == []


def test_boxes_without_an_area_are_read_all_the_same(tmp_path):
    path = write_coco(tmp_path / 'a.json', BALANCED)
    content = json.loads(path.read_text())
    for row in content['annotations']:
        del row['area'], row['iscrowd']
    path.write_text(json.dumps(content))
    cfg = config_of(path)
    init_default_scope('mmdet')
    from mmdet.registry import DATASETS

    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == len(BALANCED)
    assert len(dataset.get_data_info(0)['instances']) == 4


def test_validation_of_partial_lvis_hands_on_what_was_looked_for(tmp_path):
    images = [[0], [1], [2], [3]] * 5
    path = federate(write_coco(tmp_path / 'a.json', images), {1: [2, 3]})
    Image.new('RGB', (SIDE, SIDE)).save('0.png')
    cfg = config_of(path, '--val', path)
    assert cfg.val_evaluator[0].type == OURS + 'ImbalanceLVISMetric'
    init_default_scope('mmdet')
    from mmdet.registry import DATASETS

    sample = DATASETS.build(cfg.val_dataloader.dataset)[0]['data_samples']
    assert sample.verified_neg == [1, 2]
    assert sample.not_exhaustive == []


# --- Open Images ----------------------------------------------------------------------
@pytest.fixture
def open_images(tmp_path) -> dict[str, Path]:
    files = {name: tmp_path / f'{name}.csv' for name in ('boxes', 'classes', 'labels')}
    mids = ['/m/a', '/m/b', '/m/c']
    header = ['ImageID', 'LabelName', 'XMin', 'XMax', 'YMin', 'YMax', 'IsGroupOf']
    rows = [[f'i{k}', mids[k % 2], 0.1, 0.5, 0.2, 0.6, 0] for k in range(12)]
    for path, content in (
        (files['boxes'], [header, *rows]),
        (files['classes'], [[mid, f'Class {mid[-1]}'] for mid in mids]),
        (files['labels'], [['ImageID', 'LabelName', 'Confidence'], ['i0', '/m/b', 0]]),
    ):
        with path.open('w', newline='') as file:
            csv.writer(file).writerows(content)
    tree = {'LabelName': '/m/c', 'Subcategory': [{'LabelName': m} for m in mids[:2]]}
    files['tree'] = tmp_path / 'tree.json'
    files['tree'].write_text(json.dumps({'LabelName': 'root', 'Subcategory': [tree]}))
    return files


def test_open_images_keeps_inner_nodes_and_verified_labels(open_images):
    cfg = config_of(
        open_images['boxes'],
        *('--classes', open_images['classes'], '--hierarchy', open_images['tree']),
        *('--image-labels', open_images['labels']),
    )
    assert cfg.classes == ('Class a', 'Class b', 'Class c')
    loss = cfg.model.roi_head.bbox_head.loss_cls
    assert loss.type == OURS + 'ClassAwareSelectiveLoss'
    init_default_scope('mmdet')
    from mmdet.registry import DATASETS

    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 12
    assert np.asarray(dataset.metainfo['ancestor_matrix'])[0].tolist() == [1, 0, 1]
    assert dataset.get_data_info(0)['verified_neg'] == [1]


def test_open_images_without_a_tree_leaves_unused_classes_out(open_images):
    cfg = config_of(open_images['boxes'], '--classes', open_images['classes'])
    assert cfg.classes == ('Class a', 'Class b')


# --- it trains ------------------------------------------------------------------------
def train_for_three_steps(cfg: Config, monkeypatch) -> list[dict]:
    """Train with a tiny backbone, on pictures of noise; returns the logged lines."""
    monkeypatch.setenv('MMDET_IMBALANCE_TRACEBACK', '1')
    # Laying out the logged config takes longer than the training.
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)
    )
    rng = np.random.default_rng(0)
    for k in range(12):
        pixels = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f'{k}.png')
        Image.fromarray(pixels).save(f'i{k}.jpg')
    shrink_model(cfg.model)
    for node in (node for _, node in walk(cfg._cfg_dict) if isinstance(node, dict)):
        if node.get('type') == 'Resize':
            node['scale'] = (SIDE, SIDE)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.visualizer.name = str(Path.cwd())
    cfg.dump('small.py')
    run = ['small.py', '--work-dir', 'run', '--seed', '0']
    assert load_tool('train').main(run) == 0
    (log,) = Path('run').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert losses
    assert np.isfinite(losses).all()
    return lines


IMAGES = {
    'balanced': [[0, 1, 2, 3]] * 12,
    'label sets': [[(0, 0), (1, 0), (2, 1), (3, 2)]] * 12,
    'tail': [[0]] * 11 + [[1]],
    'crowded': [[0] * 60 + [1]] * 12,
}


@pytest.mark.parametrize(
    ('base', 'images'),
    [
        ('faster-rcnn', 'label sets'),
        pytest.param('faster-rcnn', 'balanced', marks=pytest.mark.slow),
        pytest.param('faster-rcnn', 'crowded', marks=pytest.mark.slow),
        pytest.param('retinanet', 'label sets', marks=pytest.mark.slow),
        ('retinanet', 'tail'),
        pytest.param('retinanet', 'crowded', marks=pytest.mark.slow),
    ],
)
def test_the_config_trains_as_it_is(base, images, tmp_path, monkeypatch):
    path = write_coco(tmp_path / 'a.json', IMAGES[images])
    cfg = config_of(path, '--base', base, '--val', path)
    lines = train_for_three_steps(cfg, monkeypatch)
    assert any('coco/AP' in line for line in lines)


@pytest.mark.parametrize(
    'base', ['faster-rcnn', pytest.param('retinanet', marks=pytest.mark.slow)]
)
def test_partial_open_images_train_as_they_are(base, open_images, monkeypatch):
    cfg = config_of(
        open_images['boxes'],
        *('--classes', open_images['classes'], '--hierarchy', open_images['tree']),
        *('--image-labels', open_images['labels'], '--base', base),
    )
    train_for_three_steps(cfg, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('base', ['faster-rcnn', 'retinanet'])
def test_partial_lvis_trains_and_is_judged_as_it_is(base, tmp_path, monkeypatch):
    path = federate(write_coco(tmp_path / 'a.json', IMAGES['balanced']), {1: [2]})
    content = json.loads(path.read_text())
    content['annotations'] = [r for r in content['annotations'] if r['id'] % 3]
    path.write_text(json.dumps(content))
    cfg = config_of(path, '--base', base, '--val', path)
    assert 'ClassAwareSelective' in Path('made.py').read_text()
    lines = train_for_three_steps(cfg, monkeypatch)
    assert any('lvis/AP' in line for line in lines)


# --- real data ------------------------------------------------------------------------
def test_the_lvis_sample_gives_a_config_and_its_dataset(shared_data, tmp_path):
    path = shared_data / 'lvis_meta' / 'lvis_val_100.json'
    assert recommend_tool(path, '--out', 'made.py', '--hierarchy', 'wordnet') == 0
    cfg = Config.fromfile('made.py')
    assert cfg.model.roi_head.bbox_head.loss_cls.type == OURS + 'FederatedLoss'
    init_default_scope('mmdet')
    from mmdet.registry import DATASETS

    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    content = json.loads(path.read_text())
    shown = {row['category_id'] for row in content['annotations']}
    names = {c['name'] for c in content['categories'] if c['id'] in shown}
    assert set(dataset.metainfo['classes']) == names
    assert len(dataset) == len({row['image_id'] for row in content['annotations']})


# --- bad input ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        (['none.json'], "annotation 'none.json' not found"),
        (['broken.json'], 'broken.json, line 1: not valid JSON'),
        (['list.json'], 'no list "images"'),
        (['a.txt'], 'a.txt'),
        (['boxes.csv'], '--classes class-descriptions-boxable.csv'),
        (['boxes.csv', '--classes', 'none.csv'], 'none.csv'),
        (['a.json', '--val', 'other.json'], 'lacks 2 categories'),
        (['a.json', '--hierarchy', 'none.json'], 'none.json'),
        (['a.json', '--hierarchy', 'tree.json'], 'class name(s) are not in'),
        (['a.json', '--image-root', 'none'], 'image folder not found: none'),
        (['a.json', '--data-root', 'none'], 'data folder not found: none'),
        (['a.json', '--image-labels', 'labels.csv'], 'belong to an Open Images CSV'),
        (['empty.json'], 'no box'),
        (['twice.json'], "the name 'class 0'"),
        (['flat.json'], 'image 1 has no `width`'),
        (['a.json', '--out', 'config.yml'], '--out must name a .py file'),
        (['a.json', '--out', 'none/config.py'], 'folder not found'),
    ],
)
def test_bad_input_is_one_line(argv, expected, open_images, tmp_path, capsys):
    write_coco(tmp_path / 'a.json', BALANCED)
    write_coco(tmp_path / 'other.json', [[0, 1]])
    write_coco(tmp_path / 'empty.json', BALANCED)
    content = json.loads((tmp_path / 'empty.json').read_text())
    (tmp_path / 'empty.json').write_text(json.dumps({**content, 'annotations': []}))
    content['categories'][1]['name'] = 'class 0'
    (tmp_path / 'twice.json').write_text(json.dumps(content))
    content['images'][0].pop('width')
    content['images'][0].pop('height')
    (tmp_path / 'flat.json').write_text(json.dumps(content))
    (tmp_path / 'broken.json').write_text('{"images": [')
    (tmp_path / 'list.json').write_text('[1]')
    (tmp_path / 'a.txt').write_text('')
    out = [] if '--out' in argv else ['--out', 'made.py']
    assert recommend_tool(*argv, *out) == 2
    stderr = capsys.readouterr().err
    assert 'Traceback' not in stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith('error: ')]
    assert expected in line
    assert not Path('made.py').exists()
