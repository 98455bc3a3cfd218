"""ImbalanceCocoMetric against pycocotools, and the laws it keeps."""

import json
import pickle

import numpy as np
import pytest
import torch

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation import ImbalanceCocoMetric
from mmdet_imbalance.evaluation.results_file import read_results_pair
from mmdet_imbalance.registry import METRICS
from tests.helpers.detection_fixtures import (
    class_names,
    random_coco,
    random_predictions,
    run_metric,
    to_samples,
)
from tests.helpers.hostile_detections import hostile_lvis
from tests.helpers.oracles_coco import coco_figures, coco_results


def _write(tmp_path, coco):
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(coco))
    return str(path)


def _stats(names, img_count):
    count = np.asarray(img_count)
    return ClassStats(
        class_names=names,
        img_count=count,
        instance_count=count * 2,
        num_images=int(count.max()),
    )


def _plain(figures):
    return {key.removeprefix('coco/'): value for key, value in figures.items()}


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('max_dets', [100, 3])
def test_bit_equal_to_pycocotools(tmp_path, seed, max_dets):
    coco = random_coco(seed)
    names = class_names(coco)
    predictions = random_predictions(coco, seed + 100)
    metric = ImbalanceCocoMetric(
        ann_file=_write(tmp_path, coco), classwise=True, max_dets=max_dets
    )
    got = _plain(run_metric(metric, to_samples(coco, predictions), names))
    figures, per_class = coco_figures(
        coco, coco_results(coco, predictions, names), names, max_dets
    )
    assert 0.05 < figures['AP'] < 0.95
    assert {key: got[key] for key in figures} == figures
    assert {k: got[f'AP_{k}'] for k in names} == per_class
    assert per_class[names[-1]] == -1


@pytest.mark.parametrize('seed', range(100, 112))
def test_bit_equal_to_pycocotools_on_hostile_data(tmp_path, seed):
    coco, predictions = hostile_lvis(seed, crowd=0.15, flat_boxes=0.05)
    names = class_names(coco)
    max_dets = (100, 3, 1000)[seed % 3]
    metric = ImbalanceCocoMetric(
        ann_file=_write(tmp_path, coco), classwise=True, max_dets=max_dets
    )
    got = _plain(run_metric(metric, to_samples(coco, predictions), names))
    figures, per_class = coco_figures(
        coco, coco_results(coco, predictions, names), names, max_dets
    )
    assert {key: got[key] for key in figures} == figures
    assert {k: got[f'AP_{k}'] for k in names} == per_class


@pytest.mark.parametrize('source', ['instances', 'gt_instances'])
def test_ground_truth_from_samples_equals_ground_truth_from_file(tmp_path, source):
    coco = random_coco(7)
    for row in coco['annotations']:
        row['bbox'] = [float(round(v)) for v in row['bbox']]
        row['area'] = row['bbox'][2] * row['bbox'][3]
    names = class_names(coco)
    predictions = random_predictions(coco, 8)
    from_file = run_metric(
        ImbalanceCocoMetric(ann_file=_write(tmp_path, coco)),
        to_samples(coco, predictions),
        names,
    )
    streamed = run_metric(
        ImbalanceCocoMetric(), to_samples(coco, predictions, source), names
    )
    assert {k: from_file[k] for k in streamed} == streamed
    assert set(from_file) - set(streamed) == {'coco/APr', 'coco/APc', 'coco/APf'}


def test_order_of_images_and_batches_is_irrelevant():
    coco = random_coco(1)
    names = class_names(coco)
    samples = to_samples(coco, random_predictions(coco, 2), 'instances')
    shuffled = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]
    one = run_metric(ImbalanceCocoMetric(), samples, names)
    other = run_metric(ImbalanceCocoMetric(), shuffled, names, batch_size=1)
    assert one == other


def test_two_ranks_give_what_one_gives():
    """What the host does: each rank takes every second image and pads the last."""
    coco = random_coco(13, num_images=7)
    names = class_names(coco)
    samples = to_samples(coco, random_predictions(coco, 14), 'instances')
    alone = run_metric(ImbalanceCocoMetric(), samples, names)
    ranks = [ImbalanceCocoMetric() for _ in range(2)]
    for rank, metric in enumerate(ranks):
        metric.dataset_meta = {'classes': names}
        metric.process({}, [*samples, samples[0]][rank::2])
    sent = pickle.loads(pickle.dumps([metric.results for metric in ranks]))
    together = [row for pair in zip(*sent, strict=True) for row in pair]
    figures = ranks[0].compute_metrics(together)
    assert {f'coco/{key}': value for key, value in figures.items()} == alone


def test_perfect_detections_have_ap_one():
    coco = random_coco(3, crowd=0)
    names = class_names(coco)
    label_of = {c['id']: names.index(c['name']) for c in coco['categories']}
    predictions = {}
    for image in coco['images']:
        rows = [a for a in coco['annotations'] if a['image_id'] == image['id']]
        boxes = np.array([r['bbox'] for r in rows]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([label_of[r['category_id']] for r in rows], dtype=np.int64)
        predictions[image['id']] = (boxes, np.full(len(rows), 0.9), labels)
    got = _plain(
        run_metric(
            ImbalanceCocoMetric(),
            to_samples(coco, predictions, 'instances'),
            names,
        )
    )
    assert got['AP'] == got['AP50'] == got['AR'] == pytest.approx(1, abs=1e-12)


def test_groups_come_from_the_training_statistics_not_from_the_annotation(tmp_path):
    coco = random_coco(4)
    names = class_names(coco)
    predictions = random_predictions(coco, 5)
    samples = to_samples(coco, predictions)
    counts = [3, 50, 500, 8, 0, 400]
    metric = ImbalanceCocoMetric(ann_file=_write(tmp_path, coco), classwise=True)
    metric.set_class_stats(_stats(names, counts))
    got = _plain(run_metric(metric, samples, names))
    # class5 has no ground truth, so it is in no average.
    assert got['APr'] == pytest.approx(
        np.mean([got[f'AP_class{c}'] for c in (0, 3, 4)])
    )
    assert got['APc'] == pytest.approx(got['AP_class1'])
    assert got['APf'] == pytest.approx(got['AP_class2'])
    metric = ImbalanceCocoMetric(
        ann_file=_write(tmp_path, coco), freq_thresholds=(2, 8)
    )
    metric.set_class_stats(_stats(names, counts))
    regrouped = _plain(run_metric(metric, samples, names))
    assert regrouped['APr'] == pytest.approx(got['AP_class4'])
    assert regrouped['APc'] == pytest.approx(
        np.mean([got['AP_class0'], got['AP_class3']])
    )
    metric.set_class_stats(_stats(names, [500] * 6))
    metric.freq_thresholds = None
    empty = _plain(run_metric(metric, samples, names))
    assert empty['APr'] == empty['APc'] == -1
    assert empty['APf'] == empty['AP'] == got['AP']


def test_statistics_in_the_config_win_over_the_hook(tmp_path):
    stats = _stats(('a', 'b'), [1, 1000])
    stats.save(tmp_path / 'stats.json')
    metric = ImbalanceCocoMetric(class_stats=str(tmp_path / 'stats.json'))
    metric.set_class_stats(_stats(('a', 'b'), [1000, 1]))
    assert metric.class_stats.img_count.tolist() == [1, 1000]


def _boxes_sample(img_id, gt, pred, multi_labels=None):
    """gt: rows (x1, y1, x2, y2, label); pred: rows (..., score, label)."""
    gt, pred = torch.tensor(gt).reshape(-1, 5), torch.tensor(pred).reshape(-1, 6)
    sample = {
        'img_id': img_id,
        'ori_shape': (100, 100),
        'gt_instances': {'bboxes': gt[:, :4], 'labels': gt[:, 4].long()},
        'pred_instances': {
            'bboxes': pred[:, :4],
            'scores': pred[:, 4],
            'labels': pred[:, 5].long(),
        },
    }
    if multi_labels is not None:
        sample['gt_instances']['multi_labels'] = torch.tensor(multi_labels)
    return sample


# Of the classes animal, fish, shark: shark > fish > animal.
TREE = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)


def test_expansion_judges_a_box_for_its_ancestors():
    box = [10.0, 10, 50, 50]
    sample = _boxes_sample(0, [[*box, 2]], [[*box, 0.9, 2]])
    names = ('animal', 'fish', 'shark')

    def figures(**kwargs):
        return _plain(
            run_metric(
                ImbalanceCocoMetric(classwise=True, **kwargs),
                [sample],
                names,
                ancestor_matrix=TREE.tolist(),
            )
        )

    plain = figures()
    assert [plain[f'AP_{n}'] for n in names] == pytest.approx([-1, -1, 1])
    missed = figures(expand_ancestors=True)
    assert [missed[f'AP_{n}'] for n in names] == pytest.approx([0, 0, 1])
    both = figures(expand_ancestors=True, expand_detections=True)
    assert [both[f'AP_{n}'] for n in names] == pytest.approx([1, 1, 1])


def test_one_object_with_two_labels_has_each_shared_ancestor_once():
    box = [10.0, 10, 50, 50]
    # animal, fish, shark again; the object is explicitly a fish and a shark.
    sample = _boxes_sample(
        0, [[*box, 2]], [[*box, 0.9, 0]], multi_labels=[[False, True, True]]
    )
    got = _plain(
        run_metric(
            ImbalanceCocoMetric(expand_ancestors=True, classwise=True),
            [sample],
            ('animal', 'fish', 'shark'),
            ancestor_matrix=TREE,
        )
    )
    # One animal, found; were it there twice, half of it would be missed.
    assert got['AP_animal'] == pytest.approx(1)
    assert got['AP_fish'] == got['AP_shark'] == 0


@pytest.mark.parametrize(
    'row',
    [
        {'bbox_label': 3},
        {'bbox_label': 0, 'multi_labels': [0, 2]},
        {'bbox_label': 3, 'multi_labels': [2, 0]},
    ],
)
def test_a_label_set_means_its_members(row):
    box = [10.0, 10, 50, 50]
    sample = _boxes_sample(0, [], [[*box, 0.9, 0], [*box, 0.9, 2]])
    sample['instances'] = [{'bbox': box, 'ignore_flag': 0, **row}]
    metric = ImbalanceCocoMetric(classwise=True)
    got = _plain(run_metric(metric, [sample], ('a', 'b', 'c'), label_sets=[[0, 2]]))
    assert [got[f'AP_{n}'] for n in 'abc'] == pytest.approx([1, -1, 1])


def test_packed_label_set_ids_mean_their_members():
    box = [10.0, 10, 50, 50]
    sample = _boxes_sample(0, [[*box, 3]], [[*box, 0.9, 0], [*box, 0.9, 2]])
    metric = ImbalanceCocoMetric(classwise=True)
    got = _plain(run_metric(metric, [sample], ('a', 'b', 'c'), label_sets=[[0, 2]]))
    assert [got[f'AP_{n}'] for n in 'abc'] == pytest.approx([1, -1, 1])


def test_results_on_disk_give_the_same_figures(tmp_path):
    coco = random_coco(9)
    names = class_names(coco)
    predictions = random_predictions(coco, 10)
    prefix = tmp_path / 'run' / 'results'
    metric = ImbalanceCocoMetric(
        ann_file=_write(tmp_path, coco), outfile_prefix=str(prefix)
    )
    stats = _stats(names, [3, 50, 500, 8, 0, 400])
    metric.set_class_stats(stats)
    got = _plain(
        run_metric(
            metric, to_samples(coco, predictions), names, ancestor_matrix=np.eye(6)
        )
    )
    annotation = json.loads((tmp_path / 'run' / 'results.gt.json').read_text())
    results = json.loads((tmp_path / 'run' / 'results.bbox.json').read_text())
    figures, _ = coco_figures(annotation, results, names)
    assert {k: got[k] for k in figures} == figures
    by_name = {c['name']: c for c in annotation['categories']}
    assert [by_name[n]['image_count'] for n in names] == stats.img_count.tolist()
    gt, detections = read_results_pair(f'{prefix}.bbox.json')
    assert len(detections) == len(results)
    assert sorted(gt.class_names) == sorted(names)
    assert [
        p.name for p in (tmp_path / 'run').iterdir() if p.name.startswith('.')
    ] == []


def test_no_detections_and_no_ground_truth():
    none = ImbalanceCocoMetric()
    got = _plain(
        run_metric(none, [_boxes_sample(0, [[1.0, 1, 9, 9, 0]], [])], ('a', 'b'))
    )
    assert got['AP'] == 0
    got = _plain(run_metric(none, [_boxes_sample(0, [], [])], ('a', 'b')))
    assert set(got.values()) == {-1.0}


def test_an_image_that_came_twice_counts_once():
    sample = _boxes_sample(0, [[1.0, 1, 9, 9, 0]], [[1.0, 1, 9, 9, 0.5, 0]])
    far = _boxes_sample(1, [[1.0, 1, 9, 9, 0]], [[50.0, 50, 60, 60, 0.9, 0]])
    once = run_metric(ImbalanceCocoMetric(), [sample, far], ('a',))
    twice = run_metric(ImbalanceCocoMetric(), [sample, far, sample, far], ('a',))
    assert once == twice


def test_joined_datasets_with_equal_ids_stay_apart():
    one = _boxes_sample(0, [[1.0, 1, 9, 9, 0]], [[1.0, 1, 9, 9, 0.5, 0]])
    other = _boxes_sample(0, [[1.0, 1, 9, 9, 0]], [])
    one['img_path'], other['img_path'] = 'a/0.jpg', 'b/0.jpg'
    got = run_metric(ImbalanceCocoMetric(), [one, other], ('a',))
    assert got['coco/AR'] == pytest.approx(0.5)


def test_missing_images_are_misses_unless_asked_otherwise(tmp_path):
    coco = random_coco(11)
    names = class_names(coco)
    samples = to_samples(coco, random_predictions(coco, 12))[:15]
    path = _write(tmp_path, coco)
    all_images = run_metric(ImbalanceCocoMetric(ann_file=path), samples, names)
    some = run_metric(
        ImbalanceCocoMetric(ann_file=path, only_evaluated_images=True), samples, names
    )
    assert some['coco/AP'] > all_images['coco/AP']
    kept = {s['img_id'] for s in samples}
    part = {
        **coco,
        'images': [i for i in coco['images'] if i['id'] in kept],
        'annotations': [a for a in coco['annotations'] if a['image_id'] in kept],
    }
    (tmp_path / 'part').mkdir()
    subset = ImbalanceCocoMetric(ann_file=_write(tmp_path / 'part', part))
    assert run_metric(subset, samples, names) == some


def test_bad_input_is_named(tmp_path):
    good = _boxes_sample(5, [[1.0, 1, 9, 9, 0]], [[1.0, 1, 9, 9, 0.5, 0]])
    nan = _boxes_sample(5, [], [[1.0, 1, 9, 9, float('nan'), 0]])
    with pytest.raises(ValueError, match=r'image 5.*`scores` must be finite'):
        run_metric(ImbalanceCocoMetric(), [nan], ('a',))
    inf = _boxes_sample(5, [], [[1.0, 1, float('inf'), 9, 0.5, 0]])
    with pytest.raises(ValueError, match=r'image 5.*`bboxes` must be finite'):
        run_metric(ImbalanceCocoMetric(), [inf], ('a',))
    far = _boxes_sample(5, [], [[1.0, 1, 9, 9, 1, 1]])
    with pytest.raises(ValueError, match=r'must be in \[0, 1\), got 1'):
        run_metric(ImbalanceCocoMetric(), [far], ('a',))
    path = _write(tmp_path, random_coco(0))
    names = class_names(random_coco(0))
    with pytest.raises(ValueError, match='img_id 6: `ann_file` belongs to another'):
        run_metric(
            ImbalanceCocoMetric(ann_file=path), [_boxes_sample(6, [], [])], names
        )
    with pytest.raises(ValueError, match='no class in common'):
        run_metric(ImbalanceCocoMetric(ann_file=path), [good], ('x', 'y'))
    bare = {k: v for k, v in good.items() if k != 'gt_instances'}
    with pytest.raises(KeyError, match='ann_file'):
        run_metric(ImbalanceCocoMetric(), [bare], ('a',))
    metric = ImbalanceCocoMetric(class_stats=_stats(('a', 'b'), [1, 2]))
    with pytest.raises(ValueError, match='another dataset'):
        run_metric(metric, [good], ('a', 'c'))
    with pytest.raises(FileNotFoundError, match=r'nothing\.json'):
        ImbalanceCocoMetric(ann_file='nothing.json')
    with pytest.raises(ValueError, match='ClassStatsHook'):
        run_metric(ImbalanceCocoMetric(freq_thresholds=(1, 2)), [good], ('a',))
    with pytest.raises(ValueError, match='ClassHierarchyDataset'):
        run_metric(ImbalanceCocoMetric(expand_ancestors=True), [good], ('a',))
    with pytest.raises(ValueError, match='must have shape'):
        run_metric(
            ImbalanceCocoMetric(expand_ancestors=True),
            [good],
            ('a',),
            ancestor_matrix=np.eye(3),
        )


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.pop('categories'), "no list named 'categories'"),
        (lambda c: c['annotations'][0].update(image_id=1), 'image_id 1'),
        (lambda c: c['annotations'][0].update(category_id=99), 'category_id 99'),
        (lambda c: c['annotations'][0].pop('bbox'), 'needs category_id'),
        (lambda c: c['images'].append(c['images'][0]), 'two images share'),
        (lambda c: c['categories'].append(c['categories'][0]), 'two categories'),
        (lambda c: c['images'][0].pop('id'), "'images' lacks"),
        (
            lambda c: c['images'][0].update(id='a'),
            "'images' must be an integer, got 'a'",
        ),
        (lambda c: c['categories'][0].update(id=1.5), 'must be an integer, got 1.5'),
        (
            lambda c: c['categories'][0].update(name=c['categories'][1]['name']),
            'two categories are called',
        ),
    ],
)
def test_broken_annotation_is_named(tmp_path, change, message):
    coco = random_coco(0)
    names = class_names(coco)
    samples = to_samples(coco, random_predictions(coco, 1))
    change(coco)
    metric = ImbalanceCocoMetric(ann_file=_write(tmp_path, coco))
    with pytest.raises(ValueError, match=message):
        run_metric(metric, samples, names)


def test_boxes_outside_the_image_and_inverted_boxes_are_false_positives():
    gt = [[1.0, 1, 9, 9, 0]]
    good = [1.0, 1, 9, 9, 0.5, 0]
    for bad in ([500.0, 500, 600, 600, 0.9, 0], [9.0, 9, 1, 1, 0.9, 0]):
        got = run_metric(
            ImbalanceCocoMetric(), [_boxes_sample(0, gt, [good, bad])], ('a',)
        )
        assert got['coco/AP'] == pytest.approx(0.5)


def test_built_by_the_host_from_a_config():
    from mmdet.structures import DetDataSample
    from mmengine.evaluator import Evaluator
    from mmengine.structures import InstanceData

    evaluator = Evaluator(dict(type='mmdet_imbalance.ImbalanceCocoMetric'))
    evaluator.dataset_meta = {'classes': ('a',)}
    sample = DetDataSample(metainfo={'img_id': 3, 'ori_shape': (50, 60)})
    box = torch.tensor([[1.0, 1, 9, 9]])
    sample.gt_instances = InstanceData(bboxes=box, labels=torch.tensor([0]))
    sample.pred_instances = InstanceData(
        bboxes=box.half(), scores=torch.ones(1).bfloat16(), labels=torch.tensor([0])
    )
    evaluator.process([sample], {})
    assert evaluator.evaluate(1)['coco/AP'] == pytest.approx(1)
    with pytest.raises(TypeError, match='claswise'):
        METRICS.build(dict(type='mmdet_imbalance.ImbalanceCocoMetric', claswise=True))


def test_ids_that_json_cannot_hold():
    for kind in (np.int64, torch.tensor):
        sample = _boxes_sample(3, [[1.0, 1, 9, 9, 0]], [[1.0, 1, 9, 9, 0.5, 0]])
        sample['img_id'] = kind(3)
        assert run_metric(ImbalanceCocoMetric(), [sample], ('a',))['coco/AP'] > 0.99


@pytest.mark.parametrize('ids', [['x', 'w', 'y', 'v'], [8, 2, 6, 4]])
def test_written_ground_truth_is_an_annotation_of_the_same_images(tmp_path, ids):
    """Two of four images have a box; each is judged for what it is."""
    prefix = tmp_path / 'run'
    box = [[1.0, 1, 9, 9, 0]]
    samples = [
        _boxes_sample(img_id, box * (k < 2), [[1.0, 1, 9, 9, 0.5, 0]])
        for k, img_id in enumerate(ids)
    ]
    streamed = run_metric(
        ImbalanceCocoMetric(outfile_prefix=str(prefix)), samples, ('a',)
    )
    path = str(tmp_path / 'run.gt.json')
    assert run_metric(ImbalanceCocoMetric(ann_file=path), samples, ('a',)) == streamed
    for part, expected in ((samples[:2], 1.0), (samples[2:], -1.0)):
        metric = ImbalanceCocoMetric(ann_file=path, only_evaluated_images=True)
        assert run_metric(metric, part, ('a',))['coco/AP'] == expected


def test_written_ground_truth_of_joined_datasets_is_refused(tmp_path):
    samples = [_boxes_sample(0, [[1.0, 1, 9, 9, 0]], []) for _ in range(2)]
    samples[0]['img_path'], samples[1]['img_path'] = 'a/0.jpg', 'b/0.jpg'
    run_metric(ImbalanceCocoMetric(outfile_prefix=str(tmp_path / 'r')), samples, ('a',))
    metric = ImbalanceCocoMetric(ann_file=str(tmp_path / 'r.gt.json'))
    with pytest.raises(ValueError, match='joined datasets'):
        run_metric(metric, samples, ('a',))
