"""Random boxes of a wanted IoU around ground truth: generated positives.

Oksuz et al., "Generating Positive Bounding Boxes for Balanced Training of Object
Detectors", WACV 2020, https://arxiv.org/abs/1909.09777: positive RoIs balanced over the
classes and over intervals of IoU, instead of those that proposals happen to be.

Shapes: G ground-truth boxes, N boxes to generate, K intervals of IoU.  Boxes are x1,
y1, x2, y2 in pixels.
Deviations: the paper draws the top-left corner in the region from which the IoU can
still be reached, and then the bottom-right corner; boxes have at least that IoU.  Here
a box moves away from the ground truth along a random direction, until it has exactly
the wanted IoU, in closed form; every box is reached, by one direction.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mmdet_imbalance.core.roi_balance import foreground_balanced_probs

#: Turns a displacement of the sides (left, top, right, bottom) outwards.
OUTWARDS = (-1.0, -1.0, 1.0, 1.0)
NUM_SIDES = 4


def boxes_at_iou(
    gt_boxes: Tensor,
    iou: Tensor,
    generator: torch.Generator,
    image_size: tuple[float, float] | None = None,
) -> Tensor:
    """A random box for each ground truth, with the wanted IoU.

    Each side moves in or out with equal chance, by normally distributed parts of width
    or height.  Along such a direction the IoU falls strictly, so that one distance has
    the wanted IoU: the smaller root of a quadratic equation.  Sides that would leave
    the image move inwards instead; where all four do, the box is inside.

    Args:
        gt_boxes: shape (N, 4), inside the image.
        iou: wanted IoU of each box with its ground truth, in (0, 1], shape (N,).
        generator: owner of the randomness, on the device of `gt_boxes`.
        image_size: height and width in pixels; None for no bound.

    Returns:
        Shape (N, 4), in the type of `gt_boxes`.  A ground truth without area is its own
        box.

    Raises:
        ValueError: shapes that do not fit, or an `iou` outside (0, 1] (looked at on the
            CPU only: on a GPU that would stop the stream).
    """
    if gt_boxes.ndim != 2 or gt_boxes.shape[1] != NUM_SIDES:
        raise ValueError(
            f'`gt_boxes` must have shape (N, 4), got {tuple(gt_boxes.shape)}'
        )
    if iou.shape != gt_boxes.shape[:1]:
        raise ValueError(
            f'`iou` must have shape ({len(gt_boxes)},), got {tuple(iou.shape)}'
        )
    if iou.device.type == 'cpu' and not ((iou > 0) & (iou <= 1)).all():
        raise ValueError('`iou` must be in (0, 1]')
    boxes = gt_boxes.double()
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    side = size * size.new_tensor(OUTWARDS)
    # Parts of width or height by which a side moves; positive is outwards.
    move = torch.randn(
        boxes.shape, generator=generator, dtype=torch.float64, device=boxes.device
    )
    found = boxes + side * _reach(move, iou.double())[:, None] * move
    if image_size is not None:
        height, width = image_size
        low, high = boxes.new_zeros(4), boxes.new_tensor([width, height] * 2)
        # A turned side stays turned: four rounds are enough for any box.
        for _ in range(NUM_SIDES):
            outside = (found < low) | (found > high)
            move = torch.where(outside & (move > 0), -move, move)
            found = boxes + side * _reach(move, iou.double())[:, None] * move
    return found.to(gt_boxes)


def _reach(move: Tensor, iou: Tensor) -> Tensor:
    """Distance along `move`, of a unit square, at which the IoU is `iou`, shape (N,).

    With i_x the sum of what left and right move inwards and o_x outwards, after a
    distance s the boxes share (1 - i_x s)(1 - i_y s), and what the moved box has beyond
    is (o_x + o_y) s + (o_x o_y - o_x i_y - i_x o_y) s^2.
    """
    inwards = move.clamp(max=0).neg()
    outwards = move.clamp(min=0)
    i_x, i_y = inwards[:, 0] + inwards[:, 2], inwards[:, 1] + inwards[:, 3]
    o_x, o_y = outwards[:, 0] + outwards[:, 2], outwards[:, 1] + outwards[:, 3]
    # shared = iou * (1 + beyond), as a s^2 - b s + c = 0.
    a = i_x * i_y - iou * (o_x * o_y - o_x * i_y - i_x * o_y)
    b = i_x + i_y + iou * (o_x + o_y)
    c = 1 - iou
    # The smaller positive root, in the form that does not cancel and knows a = 0.
    return 2 * c / (b + (b * b - 4 * a * c).clamp(min=0).sqrt())


def balanced_positive_boxes(
    gt_boxes: Tensor,
    gt_labels: Tensor,
    num: int,
    generator: torch.Generator,
    image_size: tuple[float, float] | None = None,
    iou_edges: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    iou_weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Boxes around the ground truths of an image, balanced over class and IoU.

    Every class that is present has the same share, its objects have equal parts of it,
    and every interval of IoU has its weight; shares are whole numbers, and those that
    do not divide evenly are rounded up or down at random.  Within its interval an IoU
    is drawn uniformly.

    Args:
        gt_boxes: shape (G, 4), inside the image.
        gt_labels: shape (G,).
        num: number N of boxes; none is made where there is no ground truth with area.
        generator: owner of the randomness, on the device of `gt_boxes`.
        image_size: height and width in pixels; None for no bound.
        iou_edges: bounds of the intervals, rising, in (0, 1], K + 1 of them.
        iou_weights: relative weights of the intervals, K of them; None for equal ones.

    Returns:
        Boxes, shape (N, 4), and which ground truth each was made for, shape (N,).
    """
    edges, weights = check_iou_intervals(iou_edges, iou_weights)
    device = gt_boxes.device
    with_area = ((gt_boxes[:, 2:] > gt_boxes[:, :2]).all(dim=1)).nonzero().squeeze(1)
    if not len(with_area) or num < 1:
        return gt_boxes[:0], torch.zeros(0, dtype=torch.long, device=device)

    def random(*shape: int) -> Tensor:
        return torch.rand(
            shape, generator=generator, dtype=torch.float64, device=device
        )

    # 1. Objects of a class side by side, classes and objects in random order: a class
    #    then has num / K boxes, rounded, whatever the number of its objects.
    labels = gt_labels[with_area]
    names, class_of = labels.unique(return_inverse=True)
    order = random(len(labels)).argsort()
    order = order[random(len(names))[class_of[order]].argsort(stable=True)]
    owner = with_area[order][
        systematic_draw(foreground_balanced_probs(labels)[order], num, random(1))
    ]
    # 2. Intervals in a random order, so that they know nothing of the classes.
    weights = torch.tensor(weights, dtype=torch.float64, device=device)
    interval = systematic_draw(weights, num, random(1))[random(num).argsort()]
    edges = torch.tensor(edges, dtype=torch.float64, device=device)
    low, high = edges[interval], edges[interval + 1]
    iou = low + random(num) * (high - low)
    return boxes_at_iou(gt_boxes[owner], iou, generator, image_size), owner


def systematic_draw(weights: Tensor, num: int, start: Tensor) -> Tensor:
    """Positions, rising, each as often as its share of `num`, rounded up or down.

    Args:
        weights: not negative, not all 0, shape (n,).
        num: how many positions.
        start: random number in [0, 1), shape (1,); decides who is rounded up.

    Returns:
        Shape (num,).
    """
    edges = weights.double().cumsum(0)
    ticks = (torch.arange(num, device=weights.device) + start) / num * edges[-1]
    # A tick on an edge belongs to what follows, so weight 0 is never drawn.
    return torch.searchsorted(edges, ticks, right=True).clamp(max=len(weights) - 1)


def check_iou_intervals(
    iou_edges: Sequence[float], iou_weights: Sequence[float] | None
) -> tuple[list[float], list[float]]:
    """Edges and weights as lists of numbers, or ValueError for those that cannot be."""
    try:
        edges = [float(edge) for edge in iou_edges]
    except (TypeError, ValueError):
        edges = []
    rising = all(low < high for low, high in pairwise(edges))
    if len(edges) < 2 or not edges[0] > 0 or not edges[-1] <= 1 or not rising:
        raise ValueError(
            '`iou_edges` must be two numbers or more, rising, in (0, 1], got '
            f'{iou_edges!r}'
        )
    if iou_weights is None:
        return edges, [1.0] * (len(edges) - 1)
    weights = [float(weight) for weight in iou_weights]
    finite = all(0 <= weight < float('inf') for weight in weights)
    if len(weights) != len(edges) - 1 or not finite or not sum(weights) > 0:
        raise ValueError(
            f'`iou_weights` must be {len(edges) - 1} numbers of at least 0, not all 0, '
            f'got {iou_weights!r}'
        )
    return edges, weights
