"""PISA against loops over the paper's text, and its laws; three images or more."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.pisa import (
    aligned_iou,
    carl_weights,
    group_size,
    iou_hierarchical_weights,
    nms_match,
    overlaps,
    preserve_total,
    rank_within,
    score_hierarchical_weights,
)
from tests.helpers import oracles_pisa


def positives(num, num_gts, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    gt_ids = torch.randint(num_gts, (num,), generator=generator)
    label_of_gt = torch.randint(num_classes, (num_gts,), generator=generator)
    iou = torch.rand(num, generator=generator, dtype=torch.double)
    return iou, label_of_gt[gt_ids], gt_ids


def negatives(num, num_images, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = 40 * torch.rand(num, 2, generator=generator, dtype=torch.double)
    size = 5 + 25 * torch.rand(num, 2, generator=generator, dtype=torch.double)
    scores = torch.rand(num, generator=generator, dtype=torch.double) ** 2
    image_ids = torch.randint(num_images, (num,), generator=generator)
    return scores, torch.cat([corner, corner + size], dim=1), image_ids


@settings(deadline=None, max_examples=40)
@given(
    num=st.integers(1, 40),
    num_gts=st.integers(1, 8),
    num_classes=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    gamma=st.sampled_from([0.5, 1.0, 2.0]),
    bias=st.sampled_from([0.0, 0.3]),
    count=st.sampled_from(['max', 'class']),
)
def test_iou_hlr_equals_the_loops(num, num_gts, num_classes, seed, gamma, bias, count):
    iou, labels, gt_ids = positives(num, num_gts, num_classes, seed)
    weights = iou_hierarchical_weights(iou, labels, gt_ids, gamma, bias, count)
    expected = oracles_pisa.iou_hierarchical_weights(
        iou.tolist(), labels.tolist(), gt_ids.tolist(), gamma, bias, count
    )
    assert weights.tolist() == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(
    num=st.integers(1, 40),
    num_images=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    bias=st.sampled_from([0.0, 0.3]),
    iou_thr=st.sampled_from([0.3, 0.5]),
)
def test_score_hlr_equals_the_loops(num, num_images, seed, bias, iou_thr):
    scores, boxes, image_ids = negatives(num, num_images, seed)
    weights = score_hierarchical_weights(
        scores, boxes, image_ids, 0.5, bias, 0.05, iou_thr
    )
    expected = oracles_pisa.score_hierarchical_weights(
        scores.tolist(), boxes.tolist(), image_ids.tolist(), 0.5, bias, 0.05, iou_thr
    )
    assert weights.tolist() == pytest.approx(expected)


@settings(deadline=None, max_examples=30)
@given(num=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_nms_match_names_the_leader_of_greedy_nms(num, seed):
    scores, boxes, image_ids = negatives(num, 3, seed)
    leader = nms_match(boxes, scores, image_ids, iou_thr=0.4)
    assert leader.tolist() == oracles_pisa.nms_match(
        boxes.tolist(), scores.tolist(), image_ids.tolist(), 0.4
    )


def test_a_chain_of_overlaps_needs_more_than_one_round():
    # Each box overlaps its neighbours only: greedy NMS keeps every other one.
    left = 4.0 * torch.arange(9)
    boxes = torch.stack([left, 0 * left, left + 10, 0 * left + 10], dim=1)
    scores = torch.linspace(0.9, 0.1, 9)
    leader = nms_match(boxes, scores, torch.zeros(9, dtype=torch.long), iou_thr=0.4)
    assert leader.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8]


def test_a_better_iou_never_weighs_less_within_its_ground_truth():
    iou, labels, gt_ids = positives(80, 12, 3, seed=0)
    weights = iou_hierarchical_weights(iou, labels, gt_ids)
    for gt in gt_ids.unique():
        members = (gt_ids == gt).nonzero().squeeze(1)
        by_iou = members[iou[members].argsort(descending=True)]
        assert (weights[by_iou].diff() <= 0).all()


def test_the_best_box_of_every_ground_truth_comes_before_any_second_best():
    iou = torch.tensor([0.9, 0.8, 0.5, 0.4])
    gt_ids = torch.tensor([0, 0, 1, 1])
    weights = iou_hierarchical_weights(iou, torch.zeros(4).long(), gt_ids, gamma=1.0)
    assert weights.tolist() == [1.0, 0.5, 0.75, 0.25]


def test_permuting_positives_permutes_the_weights():
    iou, labels, gt_ids = positives(50, 9, 3, seed=1)
    order = torch.randperm(50)
    torch.testing.assert_close(
        iou_hierarchical_weights(iou[order], labels[order], gt_ids[order]),
        iou_hierarchical_weights(iou, labels, gt_ids)[order],
    )


def test_names_of_classes_and_ground_truths_do_not_matter():
    iou, labels, gt_ids = positives(50, 9, 3, seed=2)
    torch.testing.assert_close(
        iou_hierarchical_weights(iou, 100 - labels, 7 * gt_ids + 3),
        iou_hierarchical_weights(iou, labels, gt_ids),
    )


def test_images_of_negatives_do_not_meet():
    scores, boxes, image_ids = negatives(60, 3, seed=3)
    weights = score_hierarchical_weights(scores, boxes, image_ids)
    for image in range(3):
        mine = image_ids == image
        torch.testing.assert_close(
            weights[mine],
            score_hierarchical_weights(scores[mine], boxes[mine], image_ids[mine]),
        )


def test_gamma_zero_weighs_all_alike():
    iou, labels, gt_ids = positives(20, 4, 2, seed=4)
    assert (iou_hierarchical_weights(iou, labels, gt_ids, gamma=0.0) == 1).all()
    scores, boxes, image_ids = negatives(20, 3, seed=4)
    assert (score_hierarchical_weights(scores, boxes, image_ids, gamma=0.0) == 1).all()


def test_no_negative_above_the_threshold_weighs_all_alike():
    scores, boxes, image_ids = negatives(20, 3, seed=5)
    weights = score_hierarchical_weights(scores, boxes, image_ids, score_thr=1.0)
    assert (weights == 1).all()


def test_carl_weights_equal_the_loops_and_sum_to_the_number_of_positives():
    scores = torch.rand(30, dtype=torch.double)
    for k, bias in ((1.0, 0.2), (2.0, 0.0), (0.0, 0.5)):
        weights = carl_weights(scores, k, bias)
        assert weights.tolist() == pytest.approx(
            oracles_pisa.carl_weights(scores.tolist(), k, bias)
        )
        assert weights.sum().item() == pytest.approx(30)
    assert (carl_weights(scores, k=0.0) == 1).all()


def test_carl_passes_gradients_into_the_scores():
    scores = torch.rand(6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(carl_weights, (scores,))


@pytest.mark.parametrize('num', [0, 1, 3, 4, 1000])
@pytest.mark.parametrize(('score', 'k'), [(0.0, 1.0), (1e-40, 1.0), (1e-30, 2.0)])
def test_carl_of_equal_tiny_scores_prefers_nothing(num, score, k):
    scores = torch.full((num,), score, requires_grad=True)
    weights = carl_weights(scores, k=k, bias=0.0)
    torch.testing.assert_close(weights, torch.ones(num))
    weights.sum().backward()
    assert scores.grad.isfinite().all()


def test_carl_of_tiny_scores_keeps_their_ratio():
    weights = carl_weights(torch.tensor([1e-30, 3e-30]), bias=0.0)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5]))


def test_preserve_total_keeps_the_weighted_sum():
    loss, weights = torch.rand(20), torch.rand(20)
    rescaled = preserve_total(weights, loss)
    torch.testing.assert_close((rescaled * loss).sum(), loss.sum())
    torch.testing.assert_close(rescaled / rescaled[0], weights / weights[0])
    assert torch.equal(preserve_total(weights, torch.zeros(20)), weights)
    assert torch.equal(preserve_total(torch.zeros(20), loss), torch.zeros(20))


def test_empty_inputs():
    none, boxes = torch.zeros(0), torch.zeros(0, 4)
    ids = torch.zeros(0, dtype=torch.long)
    assert iou_hierarchical_weights(none, ids, ids).shape == (0,)
    assert score_hierarchical_weights(none, boxes, ids).shape == (0,)
    assert carl_weights(none).shape == (0,)
    assert preserve_total(none, none).shape == (0,)


def test_weights_are_detached():
    iou, labels, gt_ids = positives(10, 3, 2, seed=6)
    iou.requires_grad_()
    assert not iou_hierarchical_weights(iou, labels, gt_ids).requires_grad
    scores, boxes, image_ids = negatives(10, 3, seed=6)
    scores.requires_grad_()
    assert not score_hierarchical_weights(scores, boxes, image_ids).requires_grad


def test_rank_within_groups_and_group_size():
    key = torch.tensor([3.0, 1.0, 2.0, 1.0, 5.0])
    group = torch.tensor([1, 0, 1, 1, 0])
    assert rank_within(key, group).tolist() == [2, 0, 1, 0, 1]
    assert rank_within(key).tolist() == [3, 0, 2, 1, 4]
    assert group_size(group).tolist() == [3, 2, 3, 3, 2]


def test_aligned_iou_and_overlaps_equal_the_loops():
    _, boxes, _ = negatives(20, 1, seed=7)
    _, others, _ = negatives(20, 1, seed=8)
    expected = [
        oracles_pisa.box_iou(a, b)
        for a, b in zip(boxes.tolist(), others.tolist(), strict=True)
    ]
    assert aligned_iou(boxes, others).tolist() == pytest.approx(expected)
    pairs = overlaps(torch.stack([boxes, others]), 0.3)
    for each, found in zip((boxes, others), pairs, strict=True):
        rows = each.tolist()
        assert found.tolist() == [
            [oracles_pisa.box_iou(a, b) > 0.3 for b in rows] for a in rows
        ]
    degenerate = torch.tensor([[1.0, 1, 1, 1]])
    assert aligned_iou(degenerate, degenerate).tolist() == [0.0]
    assert not overlaps(degenerate[None], 0.3).any()


def test_wrong_arguments_are_named():
    iou, labels, gt_ids = positives(5, 2, 2, seed=0)
    with pytest.raises(ValueError, match='`gt_ids`'):
        iou_hierarchical_weights(iou, labels, gt_ids[:3])
    with pytest.raises(ValueError, match='`count`'):
        iou_hierarchical_weights(iou, labels, gt_ids, count='mean')
    with pytest.raises(ValueError, match='`boxes`'):
        score_hierarchical_weights(iou, torch.zeros(4, 4), gt_ids)
    with pytest.raises(ValueError, match='`bias`'):
        carl_weights(iou, bias=2)
    with pytest.raises(ValueError, match='`scores`'):
        carl_weights(torch.rand(3, 2))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int32])
def test_labels_of_a_small_dtype_do_not_overflow(dtype):
    iou, labels, gt_ids = positives(60, 12, 4, seed=3)
    labels = 60 * labels  # up to 180: times 60 positives no byte holds it.
    torch.testing.assert_close(
        iou_hierarchical_weights(iou, labels.to(dtype), gt_ids),
        iou_hierarchical_weights(iou, labels, gt_ids),
    )


def test_equal_ious_rank_in_order_of_the_rows():
    weights = iou_hierarchical_weights(
        torch.full((4,), 0.5), torch.zeros(4).long(), torch.tensor([7, 7, 2, 2]), 1.0
    )
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5, 0.75, 0.25]))
