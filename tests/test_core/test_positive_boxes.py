"""Generated boxes: the IoU that was asked for, balance, inside the image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from mmdet_imbalance.core.positive_boxes import (
    balanced_positive_boxes,
    boxes_at_iou,
    systematic_draw,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ground_truths(num, generator, width=160, height=120):
    """Boxes anywhere in the image, of all shapes, also at its border."""
    corner = torch.rand(num, 4, generator=generator, dtype=torch.float64)
    # Corners beyond the border are clipped to it.
    corner = (corner * 1.4 - 0.2).clamp(0, 1)
    low = torch.minimum(corner[:, :2], corner[:, 2:])
    high = torch.maximum(corner[:, :2], corner[:, 2:])
    high = torch.maximum(high, low + 0.01)
    shift = (high - 1).clamp(min=0)
    scale = torch.tensor([width, height], dtype=torch.float64).repeat(2)
    return torch.cat([low - shift, high - shift], dim=1) * scale


def iou_of(gt, boxes):
    """By an independent library, box by box."""
    sides = [
        torch.cat([b[:, :2], b[:, 2:] - b[:, :2]], 1).double() for b in (boxes, gt)
    ]
    pairs = zip(*(side.numpy() for side in sides), strict=True)
    found = [coco.iou(a[None], b[None], [0])[0, 0] for a, b in pairs]
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize('bounded', [False, True])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31))
def test_every_box_has_exactly_the_wanted_iou(bounded, seed):
    generator = seeded(seed)
    gt = ground_truths(64, generator)
    wanted = torch.rand(64, generator=generator, dtype=torch.float64) * 0.97 + 0.03
    boxes = boxes_at_iou(gt, wanted, generator, (120, 160) if bounded else None)
    torch.testing.assert_close(iou_of(gt, boxes), wanted, rtol=1e-6, atol=1e-9)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    if bounded:
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([160, 120] * 2)).all()


def test_iou_1_is_the_ground_truth_itself_and_no_area_stays_none():
    gt = torch.tensor([[3.0, 4, 30, 40], [5, 5, 5, 9]])
    boxes = boxes_at_iou(gt, torch.ones(2), seeded())
    assert torch.equal(boxes, gt)
    point = boxes_at_iou(gt[1:], torch.tensor([0.5]), seeded(), (50, 50))
    assert point[0, 0] == point[0, 2] == 5


def test_a_ground_truth_that_fills_the_image_only_shrinks():
    gt = torch.tensor([[0.0, 0, 160, 120]]).expand(200, 4)
    boxes = boxes_at_iou(gt, torch.full((200,), 0.6), seeded(), (120, 160))
    assert (boxes >= 0).all()
    assert (boxes <= gt[0, 2:].repeat(2)).all()
    torch.testing.assert_close(
        iou_of(gt, boxes), torch.full((200,), 0.6).double(), rtol=1e-5, atol=0
    )


def test_all_sides_move_both_ways_and_all_alike():
    gt = torch.tensor([[40.0, 40, 80, 70]]).expand(4000, 4)
    boxes = boxes_at_iou(gt, torch.full((4000,), 0.6), seeded())
    part = (boxes - gt) / torch.tensor([40.0, 30, 40, 30])
    outwards = part * torch.tensor([-1.0, -1, 1, 1])
    assert (outwards > 0).float().mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.04)
    # Nothing tells left from right, or across from along.
    means = outwards.abs().mean(0)
    assert means.tolist() == pytest.approx([float(means.mean())] * 4, rel=0.05)


def test_boxes_move_and_scale_with_their_ground_truth():
    gt = ground_truths(50, seeded(1))
    wanted = torch.linspace(0.3, 0.9, 50)
    plain = boxes_at_iou(gt, wanted, seeded(2))
    scale = torch.tensor([3.0, 0.5, 3.0, 0.5]).double()
    shift = torch.tensor([7.0, -9, 7, -9]).double()
    moved = boxes_at_iou(gt * scale + shift, wanted, seeded(2))
    torch.testing.assert_close(moved, plain * scale + shift)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match='`gt_boxes`'):
        boxes_at_iou(torch.zeros(4), torch.ones(1), seeded())
    with pytest.raises(ValueError, match='`iou`'):
        boxes_at_iou(torch.zeros(3, 4), torch.ones(2), seeded())
    for iou in (0.0, 1.5, float('nan')):
        with pytest.raises(ValueError, match=r'\(0, 1\]'):
            boxes_at_iou(torch.ones(1, 4), torch.tensor([iou]), seeded())


# --- balance ---------------------------------------------------------------------
def test_classes_objects_and_intervals_have_their_shares():
    gt = ground_truths(7, seeded(3)).float()
    labels = torch.tensor([4, 4, 4, 4, 9, 9, 2])
    edges = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    per_object = torch.zeros(7)
    for draw in range(60):
        boxes, owner = balanced_positive_boxes(
            gt, labels, 100, seeded(draw), (120, 160), edges
        )
        assert boxes.dtype == gt.dtype
        iou = iou_of(gt[owner], boxes)
        # Coordinates are single numbers: the IoU is within their rounding.
        assert iou.min() > 0.5 - 1e-5
        interval = (iou.clamp(0.5, 1 - 1e-9) * 10 - 5).long()
        assert (interval.bincount(minlength=5) - 20).abs().max() <= 1
        by_class = labels[owner].bincount(minlength=10)[[4, 9, 2]]
        assert set(by_class.tolist()) <= {33, 34}
        per_object += owner.bincount(minlength=7)
    expected = 100 / 3 * torch.tensor([1 / 4] * 4 + [1 / 2] * 2 + [1])
    assert (per_object / 60).tolist() == pytest.approx(expected.tolist(), abs=0.3)


def test_intervals_know_nothing_of_classes():
    gt, labels = ground_truths(4, seeded(5)), torch.tensor([0, 0, 1, 2])
    means = torch.zeros(3)
    for draw in range(200):
        boxes, owner = balanced_positive_boxes(gt, labels, 30, seeded(draw))
        iou = iou_of(gt[owner], boxes)
        means += torch.stack([iou[labels[owner] == c].mean() for c in range(3)]).float()
    assert (means / 200).tolist() == pytest.approx([0.75] * 3, abs=0.015)


def test_weights_of_intervals_are_kept_and_0_gives_none():
    gt, labels = ground_truths(3, seeded(1)), torch.tensor([0, 1, 1])
    boxes, owner = balanced_positive_boxes(
        gt, labels, 80, seeded(), None, (0.5, 0.7, 0.8, 1.0), (3, 0, 1)
    )
    iou = iou_of(gt[owner], boxes)
    assert ((iou < 0.7).sum(), (iou > 0.8).sum()) == (60, 20)


def test_objects_without_area_and_empty_images_give_nothing():
    gt = torch.tensor([[5.0, 5, 5, 9], [1, 1, 30, 20]])
    _, owner = balanced_positive_boxes(gt, torch.tensor([0, 1]), 9, seeded())
    assert owner.tolist() == [1] * 9
    for some, num in ((gt[:1], 9), (gt[:0], 9), (gt, 0)):
        boxes, owner = balanced_positive_boxes(
            some, torch.zeros(len(some), dtype=torch.long), num, seeded()
        )
        assert boxes.shape == (0, 4)
        assert owner.shape == (0,)


def test_only_the_own_generator_is_used_and_it_decides():
    gt, labels = ground_truths(3, seeded(1)), torch.tensor([0, 1, 1])
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = balanced_positive_boxes(gt, labels, 9, seeded(4))[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(balanced_positive_boxes(gt, labels, 9, seeded(4))[0], first)
    assert not torch.equal(balanced_positive_boxes(gt, labels, 9, seeded(5))[0], first)


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=9).filter(lambda w: sum(w) > 0.1),
    st.integers(0, 40),
    st.floats(0, 1, exclude_max=True),
)
def test_shares_are_rounded_up_or_down(weights, num, start):
    drawn = systematic_draw(torch.tensor(weights), num, torch.tensor([start]).double())
    counts = drawn.bincount(minlength=len(weights)).tolist()
    assert sum(counts) == num
    assert drawn.tolist() == sorted(drawn.tolist())
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - num * weight / sum(weights)) < 1 + 1e-6
        if weight == 0 and num:
            assert count == 0


@pytest.mark.parametrize(
    'bad',
    [
        dict(iou_edges=(0.5,)),
        dict(iou_edges=(0.7, 0.5)),
        dict(iou_edges=(0.0, 0.5)),
        dict(iou_edges=(0.5, 1.2)),
        dict(iou_edges='ab'),
        dict(iou_weights=(1, 1)),
        dict(iou_weights=(1, 1, -1, 1, 1)),
        dict(iou_weights=(0, 0, 0, 0, 0)),
    ],
)
def test_intervals_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match=f'`{next(iter(bad))}`'):
        balanced_positive_boxes(
            torch.ones(1, 4), torch.zeros(1, dtype=torch.long), 3, seeded(), None, **bad
        )
