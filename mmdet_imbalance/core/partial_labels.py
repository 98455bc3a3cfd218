"""Partial targets of RoIs: what an image's annotation says about each class.

Open Images verifies some classes of an image as present or absent and says nothing
of the others; LVIS lists `neg_category_ids` and `not_exhaustive_category_ids`.  A RoI
inherits that: a class is negative for it only where the image was searched for it.

Shapes: N RoIs or anchors, B images, C foreground classes (background is index C).
Matrices of ancestors are (C, C) bool, reflexive, [child, ancestor].
Values: 1 positive, 0 negative, -1 un-annotated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmdet_imbalance.core.label_sets import label_pairs

POSITIVE, NEGATIVE, UNANNOTATED = 1, 0, -1


class PartialTarget(NamedTuple):
    """Partial targets, and the image of each row, for losses that ask for it.

    Attributes:
        values: int8 (N, C).
        image_ids: shape (N,), values in [0, B).
        num_images: B.
    """

    values: Tensor
    image_ids: Tensor
    num_images: int


def annotated_classes(
    verified_pos: Tensor,
    verified_neg: Tensor,
    not_exhaustive: Tensor,
    ancestor_matrix: Tensor,
) -> Tensor:
    """Classes that an image was searched for.

    A class verified present carries its ancestors, a class verified absent its
    descendants: no animal, no dog.

    Args:
        verified_pos: classes verified or annotated as present, shape (B, C), bool.
        verified_neg: classes verified as absent, shape (B, C), bool.
        not_exhaustive: classes present of which not every object has a box, shape
            (B, C), bool; they, and their ancestors, say nothing about other RoIs.
        ancestor_matrix: shape (C, C).

    Returns:
        Shape (B, C), bool.
    """
    up, down = ancestor_matrix.float(), ancestor_matrix.float().T
    present = verified_pos.float() @ up > 0
    absent = verified_neg.float() @ down > 0
    incomplete = not_exhaustive.float() @ up > 0
    return (present | absent) & ~incomplete


def partial_targets(
    labels: Tensor,
    image_index: Tensor,
    annotated: Tensor,
    verified_neg: Tensor,
    ancestor_matrix: Tensor,
    pos_inds: Tensor | None = None,
    label_sets: Tensor | None = None,
) -> Tensor:
    """Partial target of every RoI.

    A positive RoI bears its labels and their ancestors; the descendants of its most
    specific labels are un-annotated (the annotator may have stopped at the parent)
    unless they were verified absent.  Every other class, and every class of a
    background RoI, is negative where the image was searched for it and un-annotated
    elsewhere.

    Args:
        labels: shape (N,), values in [0, C], background is C.
        image_index: image of each RoI, shape (N,), values in [0, B).
        annotated: classes that the image was searched for (`annotated_classes`),
            shape (B, C), bool.
        verified_neg: classes verified as absent, shape (B, C), bool.
        ancestor_matrix: shape (C, C).
        pos_inds: rows of `label_sets`, shape (P,).
        label_sets: explicit labels of the positives, bool (P, C); they take the place
            of `labels`.

    Returns:
        Shape (N, C), int8.

    Raises:
        ValueError: shapes that do not fit.
    """
    num_classes = ancestor_matrix.size(0)
    if annotated.ndim != 2 or annotated.size(1) != num_classes:
        raise ValueError(
            f'`annotated` must have shape (B, {num_classes}), got '
            f'{tuple(annotated.shape)}'
        )
    if labels.ndim != 1 or image_index.shape != labels.shape:
        raise ValueError(
            '`labels` and `image_index` must have the same shape (N,), got '
            f'{tuple(labels.shape)} and {tuple(image_index.shape)}'
        )
    pairs = label_pairs(labels, num_classes, pos_inds, label_sets, ancestor_matrix)
    absent = verified_neg.float() @ ancestor_matrix.float().T > 0
    open_question = pairs.ignored & ~absent[image_index[pairs.pos_rows]]

    target = torch.full(
        (len(labels), num_classes),
        UNANNOTATED,
        dtype=torch.int8,
        device=labels.device,
    )
    target.masked_fill_(annotated[image_index], NEGATIVE)
    of_positives = target[pairs.pos_rows].masked_fill(open_question, UNANNOTATED)
    target.index_copy_(0, pairs.pos_rows, of_positives)
    target[pairs.rows, pairs.classes] = POSITIVE
    return target


def open_questions(target: Tensor, ancestor_matrix: Tensor) -> Tensor:
    """Classes below the most specific positives of each row, the positives included.

    A fish may be a shark, whatever else is known of the image.

    Args:
        target: partial targets, int8 (N, C).
        ancestor_matrix: shape (C, C).

    Returns:
        Shape (N, C), bool.
    """
    matrix = ancestor_matrix.float()
    positive = (target == POSITIVE).float()
    has_positive_below = positive @ (matrix - torch.diag(matrix.diagonal())) > 0
    return positive.masked_fill(has_positive_below, 0.0) @ matrix.T > 0


def multi_hot_rows(rows: Sequence, num_classes: int, device=None) -> Tensor:
    """Lists of classes as a matrix, bool (B, C).

    Args:
        rows: a collection of labels for each image; label lists are short.
        num_classes: number C of foreground classes.
        device: of the result.

    Raises:
        ValueError: a label outside [0, C).
    """
    lengths = torch.tensor([len(row) for row in rows])
    flat = torch.tensor([int(c) for row in rows for c in row], dtype=torch.long)
    if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < num_classes:
        raise ValueError(
            f'labels of image-level facts must be in [0, {num_classes}), got '
            f'{int(flat.min())} to {int(flat.max())}'
        )
    matrix = torch.zeros((len(rows), num_classes), dtype=torch.bool)
    matrix[torch.arange(len(rows)).repeat_interleave(lengths), flat] = True
    return matrix.to(device)
