"""What is written beside a box that bears several labels, and in which order.

Shapes: n rows (box, label, score), C classes; boxes are x1, y1, x2, y2 in pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class LabelLine(NamedTuple):
    """One line of text.

    Attributes:
        label: class.
        score: best score of the class, None where there is none (annotation, implied).
        is_dimmed: whether another line of the box says the same more specifically.
    """

    label: int
    score: float | None
    is_dimmed: bool


def rows_of_objects(
    boxes: np.ndarray, scores: np.ndarray | None, same_object_iou: float
) -> list[np.ndarray]:
    """Group rows whose boxes are (nearly) the same.

    A detector gives one row for each class of a box, and Open Images one for each
    annotated label: the rows of an object belong together.

    Args:
        boxes: shape (n, 4).
        scores: shape (n,); the best row opens a group. None: the order of the rows.
        same_object_iou: rows at this IoU or more with the row that opened a group
            belong to it.

    Returns:
        Row numbers of each group, the opening row first.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    left = np.arange(len(boxes))
    if scores is not None:
        left = np.argsort(-np.asarray(scores), kind='stable')
    groups = []
    while len(left):
        same = _iou(boxes[left[0]], boxes[left]) >= same_object_iou
        same[0] = True  # A box without area has an IoU of 0 with itself.
        groups.append(left[same])
        left = left[~same]
    return groups


def label_lines(
    labels: Sequence[int],
    scores: Sequence[float] | None = None,
    ancestor_matrix: np.ndarray | None = None,
    add_ancestors: bool = True,
) -> list[LabelLine]:
    """Lines for the labels of one object, the most specific first.

    Args:
        labels: classes, repetitions allowed.
        scores: one for each of `labels`.
        ancestor_matrix: shape (C, C), `[child, ancestor]`; None: no hierarchy.
        add_ancestors: write the ancestors of `labels`, too, where they are not given.

    Returns:
        Lines that are not dimmed before dimmed ones; in each part deeper classes
        first, then better scores.
    """
    best: dict[int, float | None] = {}
    for row, label in enumerate(labels):
        score = None if scores is None else float(scores[row])
        known = best.get(int(label))
        best[int(label)] = score if known is None else max(score, known)
    if not best:
        return []
    if ancestor_matrix is None:
        order = sorted(best, key=lambda label: (-(best[label] or 0.0), label))
        return [LabelLine(label, best[label], False) for label in order]
    strict = np.array(ancestor_matrix, dtype=bool)
    np.fill_diagonal(strict, False)
    above = strict[list(best)].any(axis=0)
    if add_ancestors:
        best |= {int(a): None for a in np.flatnonzero(above) if int(a) not in best}
    depth = strict.sum(axis=1)
    lines = [
        LabelLine(label, score, bool(above[label])) for label, score in best.items()
    ]
    return sorted(
        lines,
        key=lambda ln: (ln.is_dimmed, -depth[ln.label], -(ln.score or 0.0), ln.label),
    )


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of a box (4,) with boxes (n, 4); 0 where both have no area."""
    corner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.clip(corner, 0, None).prod(axis=1)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    union = areas + np.clip(box[2:] - box[:2], 0, None).prod() - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
