"""Targets that carry a set of labels for an object.

Shapes: N RoIs or anchors, P positives among them, Q pairs (row, label of the row),
C foreground classes (background is index C).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class MultiLabelTarget(NamedTuple):
    """Label sets of the positives only, beside one primary label per row.

    A dense (N, C) target of a one-stage detector would be hundreds of megabytes
    an image (201 k anchors x 601 classes), while the rows that are no positives
    say nothing beyond "background".

    Attributes:
        labels: primary (most specific) label of each row, shape (N,), values in
            [0, C], background is C.
        pos_inds: the rows that are positive, shape (P,), int64.
        multi_labels: label set of each positive, shape (P, C), bool; the primary
            label and, where the data have a hierarchy, all ancestors are True.
    """

    labels: Tensor
    pos_inds: Tensor
    multi_labels: Tensor


class LabelPairs(NamedTuple):
    """The positives of a minibatch as pairs, sorted by row.

    Attributes:
        rows: row of each pair, int64 (Q,).
        classes: label of each pair, int64 (Q,), in [0, C).
        owner: which of the positive rows a pair belongs to, int64 (Q,), in [0, P).
        pos_rows: the positive rows, int64 (P,).
        num_labels: labels of each positive row, int64 (P,).
        is_specific: whether the row holds no other label that has this one for an
            ancestor, bool (Q,).
        label_sets: label sets, closed under the ancestors, bool (P, C); None where
            each positive row has one label.
        ignored: neither positive nor negative, bool (P, C): the descendants of a
            row's most specific labels. None without a hierarchy.
    """

    rows: Tensor
    classes: Tensor
    owner: Tensor
    pos_rows: Tensor
    num_labels: Tensor
    is_specific: Tensor
    label_sets: Tensor | None
    ignored: Tensor | None


def primary_labels(target, num_classes: int) -> Tensor:
    """One label a row, shape (N,), of any form of target; background is C.

    Args:
        target: labels (N,), dense (N, C) or (N, C + 1) with positives above 0, or a
            tuple that starts with the labels.
        num_classes: number C of foreground classes.
    """
    if isinstance(target, tuple):
        return target[0]
    if target.ndim == 1:
        return target
    foreground = target[:, :num_classes] > 0
    return torch.where(
        foreground.any(dim=1), foreground.int().argmax(dim=1), num_classes
    )


def check_integers(labels: Tensor) -> None:
    """Raise ValueError for labels that are no integers."""
    if labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise ValueError(f'labels must be integers, got {labels.dtype}')


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise ValueError for a label outside [0, C]; only on the CPU and in eager mode.

    Args:
        labels: int (N,).
        num_classes: number C of foreground classes; background is C.
    """
    if torch.compiler.is_compiling() or labels.device.type != 'cpu' or not len(labels):
        return
    low, high = labels.aminmax()
    if low < 0 or high > num_classes:
        bad = int(low if low < 0 else high)
        raise ValueError(
            f'labels must be in [0, {num_classes}] (background is {num_classes}), got '
            f'{bad}: does `num_classes` fit the class list of the dataset?'
        )


def labels_or_sets(
    target: Tensor, logits: Tensor, num_classes: int, ignore: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """The two forms of a target that pure functions take, after checks.

    Args:
        target: int (N,) in [0, C], or multi-hot in the shape of the logits.
        logits: (N, C) or (N, C + 1).
        num_classes: number C of foreground classes.
        ignore: bool in the shape of the logits, or None; its shape is checked.

    Returns:
        Labels, int64 (N,), and label sets, bool; one of them is None.
    """
    if target.shape == logits.shape:
        labels, sets = None, target > 0
    elif target.shape == logits.shape[:1]:
        check_integers(target)
        labels, sets = target.long(), None
        check_labels(labels, num_classes)
    else:
        raise ValueError(
            f'`target` must have shape ({len(logits)},) or {tuple(logits.shape)}, got '
            f'{tuple(target.shape)}'
        )
    if ignore is not None and ignore.shape != logits.shape:
        raise ValueError(
            f'`ignore` must have shape {tuple(logits.shape)}, got {tuple(ignore.shape)}'
        )
    return labels, sets


def label_pairs(
    labels: Tensor,
    num_classes: int,
    pos_inds: Tensor | None = None,
    label_sets: Tensor | None = None,
    ancestors: Tensor | None = None,
) -> LabelPairs:
    """Pairs (row, label) of a target, with what the hierarchy implies.

    Args:
        labels: primary labels, (N,), background is C; looked at without `label_sets`.
        num_classes: number C of foreground classes.
        pos_inds: rows of `label_sets`; None where these are all rows.
        label_sets: bool (P, C); rows without any label are background.
        ancestors: bool (C, C), [child, ancestor], reflexive; None without hierarchy.
    """
    if label_sets is None:
        pos_rows = (labels < num_classes).nonzero().squeeze(1)
        of_row = labels[pos_rows]
        if ancestors is None:
            one = torch.ones_like(of_row)
            owner = torch.arange(len(of_row), device=of_row.device)
            return LabelPairs(
                pos_rows, of_row, owner, pos_rows, one, one.bool(), None, None
            )
        sets = ancestors.index_select(0, of_row)
        # Contiguous first: gathering the columns of a matrix is slow.
        ignored = ancestors.t().contiguous().index_select(0, of_row) & ~sets
        owner, classes = sets.nonzero(as_tuple=True)
        is_specific = classes == of_row[owner]
    else:
        found = label_sets.any(dim=1).nonzero().squeeze(1)
        sets = label_sets.index_select(0, found)
        pos_rows = found if pos_inds is None else pos_inds[found]
        ignored = None
        if ancestors is None:
            owner, classes = sets.nonzero(as_tuple=True)
            is_specific = torch.ones_like(classes, dtype=torch.bool)
        else:
            sets, ignored, owner, classes, is_specific = _close(sets, ancestors)
    return LabelPairs(
        pos_rows[owner],
        classes,
        owner,
        pos_rows,
        sets.sum(dim=1),
        is_specific,
        sets,
        ignored,
    )


def _close(sets: Tensor, ancestors: Tensor) -> tuple[Tensor, ...]:
    """Add the ancestors of each label, find the most specific ones, ignore theirs."""
    owner, classes = sets.nonzero(as_tuple=True)
    pair, above = ancestors.index_select(0, classes).nonzero(as_tuple=True)
    sets = sets.clone()
    sets[owner[pair], above] = True
    # A label is most specific when no other label of the row has it for an ancestor.
    is_strict = above != classes[pair]
    has_below = torch.zeros_like(sets)
    has_below[owner[pair[is_strict]], above[is_strict]] = True
    owner, classes = sets.nonzero(as_tuple=True)
    is_specific = ~has_below[owner, classes]
    # Contiguous first: gathering the columns of a matrix is slow.
    descendants = ancestors.t().contiguous().index_select(0, classes[is_specific])
    pair, below = descendants.nonzero(as_tuple=True)
    ignored = torch.zeros_like(sets)
    ignored[owner[is_specific][pair], below] = True
    return sets, ignored & ~sets, owner, classes, is_specific
