"""The vectorised Open Images evaluator against the official one, and its laws."""

import numpy as np
import pytest

from mmdet_imbalance.evaluation.open_images_ap import (
    ImageBatch,
    OpenImagesEvaluator,
    average_precision,
)
from tests.helpers.open_images_fixtures import (
    ancestors_by_search,
    expand_images,
    hostile_images,
    random_hierarchy,
    random_images,
)
from tests.helpers.oracles_open_images import official_expansion, official_figures


def batch_of(images):
    """Columns of several images."""

    def rows(key, like):
        counts = [len(image[like]) for image in images]
        columns = [image[key] for image in images]
        return np.repeat(np.arange(len(images)), counts), np.concatenate(columns)

    gt_image, gt_label = rows('gt_label', 'gt_label')
    verified_image, verified_label = rows('verified_label', 'verified_label')
    det_image, det_label = rows('det_label', 'det_label')
    return ImageBatch(
        gt_image=gt_image,
        gt_label=gt_label,
        gt_box=rows('gt_box', 'gt_label')[1],
        gt_is_group_of=rows('gt_is_group_of', 'gt_label')[1],
        verified_image=verified_image,
        verified_label=verified_label,
        verified_present=rows('verified_present', 'verified_label')[1],
        det_image=det_image,
        det_label=det_label,
        det_box=rows('det_box', 'det_label')[1],
        det_score=rows('det_score', 'det_label')[1],
    )


def evaluate(images, num_classes, batch_size=7, **kwargs):
    evaluator = OpenImagesEvaluator(num_classes, **kwargs)
    for start in range(0, len(images), batch_size):
        evaluator.add(batch_of(images[start : start + batch_size]))
    return evaluator.result()


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('tie_steps', [None, 5])
@pytest.mark.parametrize(
    ('judge', 'group_of_weight'), [('verified', 1.0), ('verified', 0.25), ('all', 0.0)]
)
@pytest.mark.parametrize('expand_detections', [False, True])
def test_equals_the_official_evaluator(
    seed, tie_steps, judge, group_of_weight, expand_detections
):
    rng = np.random.default_rng(seed)
    num_classes = 9
    parents, tree = random_hierarchy(rng, num_classes)
    assert any(len(p) > 1 for p in parents) or seed > 0
    images = random_images(rng, 30, num_classes, tie_steps, integers=seed % 2 == 0)
    upwards, downwards = official_expansion(tree)
    as_classes = lambda names: [int(name[1:]) for name in names]  # noqa: E731
    expanded = expand_images(
        images,
        lambda c: as_classes(upwards(f'c{c}')),
        lambda c: as_classes(downwards(f'c{c}')),
        expand_detections,
    )
    mean, per_class = official_figures(
        expanded, num_classes, judge == 'verified', group_of_weight
    )
    got = evaluate(
        images,
        num_classes,
        judge=judge,
        group_of_weight=group_of_weight,
        ancestor_matrix=ancestors_by_search(parents),
        expand_detections=expand_detections,
    )
    np.testing.assert_allclose(got.ap, per_class, atol=1e-9)
    assert got.mean() == pytest.approx(mean, abs=1e-9)
    assert np.isnan(got.ap[-1]) or parents[-1] == []
    assert 0.02 < mean < 0.9


@pytest.mark.parametrize('seed', range(12))
def test_equals_the_official_evaluator_on_hostile_data(seed):
    rng = np.random.default_rng(seed)
    num_classes = (1, 2, 3, 5, 12, 25)[seed % 6]
    num_images = int(rng.choice([1, 3, 20]))
    parents, tree = random_hierarchy(rng, num_classes, most_parents=3)
    most_detections = 500 if seed % 4 == 0 else 40
    images = hostile_images(rng, num_images, num_classes, most_detections)
    challenge, weight, expand, iou_thr = (
        (True, 1.0, False, 0.5),
        (True, 2.0, True, 0.3),
        (False, 0.0, True, 0.5),
        (True, 0.25, False, 0.75),
        (False, 1.0, False, 0.5),
    )[seed % 5]
    upwards, downwards = official_expansion(tree)
    as_classes = lambda names: [int(name[1:]) for name in names]  # noqa: E731
    expanded = expand_images(
        images,
        lambda c: as_classes(upwards(f'c{c}')),
        lambda c: as_classes(downwards(f'c{c}')),
        expand,
    )
    mean, per_class = official_figures(
        expanded, num_classes, challenge, weight, iou_thr
    )
    got = evaluate(
        images,
        num_classes,
        judge='verified' if challenge else 'all',
        group_of_weight=weight,
        iou_thr=iou_thr,
        ancestor_matrix=ancestors_by_search(parents),
        expand_detections=expand,
    )
    np.testing.assert_allclose(got.ap, per_class, atol=1e-9)
    assert got.mean() == pytest.approx(-1 if np.isnan(mean) else mean, abs=1e-9)


def test_ground_truth_expanded_beforehand_gives_the_same():
    rng = np.random.default_rng(50)
    parents, _ = random_hierarchy(rng, 8)
    matrix = ancestors_by_search(parents)
    images = random_images(rng, 20, 8)
    for image in images:
        image['verified_present'][:] = True
    ups = lambda c: [c, *(k for k in np.flatnonzero(matrix[c]) if k != c)]  # noqa: E731
    beforehand = expand_images(images, ups, ups, False)
    for image in beforehand:
        image['verified_label'] = image['verified']
        image['verified_present'] = np.ones(len(image['verified']), dtype=bool)
    one = evaluate(images, 8, ancestor_matrix=matrix)
    other = evaluate(beforehand, 8, ancestor_matrix=matrix, expand_ground_truth=False)
    np.testing.assert_array_equal(one.ap, other.ap)
    np.testing.assert_array_equal(one.num_gt, other.num_gt)


@pytest.mark.parametrize('batch_size', [1, 4, 100])
def test_batches_and_ranks_do_not_matter(batch_size):
    images = random_images(np.random.default_rng(3), 30, 6)
    whole = evaluate(images, 6, batch_size=30)
    np.testing.assert_array_equal(evaluate(images, 6, batch_size).ap, whole.ap)
    ranks = [OpenImagesEvaluator(6) for _ in range(2)]
    for rank, evaluator in enumerate(ranks):
        evaluator.add(batch_of(images[rank::2]))
    ranks[0].merge(ranks[1])
    np.testing.assert_array_equal(ranks[0].result().ap, whole.ap)


def test_permuting_the_classes_permutes_the_result():
    rng = np.random.default_rng(8)
    parents, _ = random_hierarchy(rng, 7)
    matrix = ancestors_by_search(parents)
    images = random_images(rng, 25, 7)
    order = rng.permutation(7)
    renamed = [
        {k: (order[v] if k.endswith('_label') else v) for k, v in image.items()}
        for image in images
    ]
    other = np.zeros_like(matrix)
    other[np.ix_(order, order)] = matrix
    one = evaluate(images, 7, ancestor_matrix=matrix)
    two = evaluate(renamed, 7, ancestor_matrix=other)
    np.testing.assert_allclose(two.ap[order], one.ap, atol=1e-12)


def _image(gt=(), verified=(), det=()):
    """Rows: gt box, label, group; verified label, present; det box, score, label."""
    gt = np.array(gt, dtype=float).reshape(-1, 6)
    det = np.array(det, dtype=float).reshape(-1, 6)
    verified = np.array(verified, dtype=int).reshape(-1, 2)
    return {
        'gt_box': gt[:, :4],
        'gt_label': gt[:, 4].astype(int),
        'gt_is_group_of': gt[:, 5].astype(bool),
        'verified_label': verified[:, 0],
        'verified_present': verified[:, 1].astype(bool),
        'det_box': det[:, :4],
        'det_score': det[:, 4],
        'det_label': det[:, 5].astype(int),
    }


BOX = (10, 10, 50, 50)
AWAY = (100, 100, 150, 150)


def test_perfect_detections_have_ap_one():
    image = _image([(*BOX, 0, 0), (*AWAY, 1, 0)], [], [(*BOX, 0.9, 0), (*AWAY, 0.1, 1)])
    assert evaluate([image], 2).ap.tolist() == [1, 1]


def test_only_verified_classes_are_judged():
    found = _image([(*BOX, 0, 0)], [], [(*BOX, 0.5, 0)])
    false = [(*BOX, 0.9, 0)]
    for verified, judge, ap in (
        ([], 'verified', 1.0),
        ([(0, 0)], 'verified', 0.5),
        ([(0, 1)], 'verified', 0.5),
        ([(1, 0)], 'verified', 1.0),
        ([], 'all', 0.5),
    ):
        images = [found, _image([], verified, false)]
        assert evaluate(images, 2, judge=judge).ap[0] == ap


def test_absence_goes_down_and_presence_goes_up_the_tree():
    tree = np.array([[1, 0], [1, 1]], dtype=bool)
    found = _image([(*BOX, 1, 0)], [], [(*BOX, 0.5, 0), (*BOX, 0.5, 1)])
    both = [(*AWAY, 0.9, 0), (*AWAY, 0.9, 1)]
    for verified, ap in (
        ([(0, 0)], [0.5, 0.5]),
        ([(1, 0)], [1.0, 0.5]),
        ([(0, 1)], [0.5, 1.0]),
        ([(1, 1)], [0.5, 0.5]),
    ):
        images = [found, _image([], verified, both)]
        assert evaluate(images, 2, ancestor_matrix=tree).ap.tolist() == ap


def test_a_group_is_found_once_and_swallows_what_lies_in_it():
    group = (0, 0, 100, 100, 0, 1)
    inside = [(10, 10, 20, 20, s, 0) for s in (0.9, 0.8, 0.7)]
    image = _image([group], [], inside)
    got = evaluate([image], 1)
    assert (got.ap[0], got.num_gt[0]) == (1, 1)
    # Weight 0: no ground truth, so the class is in no average.
    got = evaluate([image], 1, judge='all', group_of_weight=0)
    assert np.isnan(got.ap[0])
    assert got.mean() == -1
    # Beside a box that is found later, the swallowed ones are no false positives.
    image = _image([group, (*AWAY, 0, 0)], [], [*inside, (*AWAY, 0.1, 0)])
    assert evaluate([image], 1, judge='all', group_of_weight=0).ap[0] == 1


def test_a_detection_looks_at_its_best_box_only():
    # Both overlap the first box most; the second one also overlaps the other box.
    near = (0, 0, 10, 10, 0, 0)
    other = (0, 0, 10, 14, 0, 0)
    image = _image([near, other], [], [(0, 0, 10, 10, 0.9, 0), (0, 0, 10, 11, 0.8, 0)])
    assert evaluate([image], 1).ap[0] == 0.5


def test_detections_without_area_are_no_false_positives():
    flat = [
        (10, 10, 10, 50, 0.9, 0),
        (10, 50, 50, 50, 0.9, 0),
        (50, 50, 10, 10, 0.9, 0),
    ]
    image = _image([(*BOX, 0, 0)], [], [*flat, (*BOX, 0.5, 0)])
    assert evaluate([image], 1).ap[0] == 1


def test_nothing_at_all():
    empty = _image()
    got = evaluate([empty, empty], 3)
    assert np.isnan(got.ap).all()
    assert got.mean() == -1
    assert evaluate([_image([(*BOX, 0, 0)])], 1).ap[0] == 0
    assert average_precision(np.zeros(0), np.zeros(0), 1.0) == 0


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"`judge` must be one of .* got 'some'"):
        OpenImagesEvaluator(1, judge='some')
    with pytest.raises(ValueError, match='must not be negative, got -1'):
        OpenImagesEvaluator(1, group_of_weight=-1)
    with pytest.raises(ValueError, match='`iou_thr`'):
        OpenImagesEvaluator(1, iou_thr=1)
    with pytest.raises(ValueError, match='merge'):
        OpenImagesEvaluator(1).merge(OpenImagesEvaluator(2))
    many = _image([], [(0, 1)], [(*BOX, 0.5, 0)] * 10001)
    with pytest.raises(ValueError, match='10001 detections of one class'):
        evaluate([many], 1)
