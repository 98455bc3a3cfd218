"""Concurrent softmax: classes that may hold together do not suppress each other.

Peng et al., "Large-Scale Object Detection in the Wild from Imbalanced Multi-Labels",
CVPR 2020, https://arxiv.org/abs/2005.08455, section 3.2:

    L = - sum_i y_i log s_i
    s_i = exp(z_i) / (sum_{j != i} (1 - y_j)(1 - r_ij) exp(z_j) + exp(z_i))

and without the y_j at test time.

Shapes: N RoIs or anchors, C foreground classes (background is index C), Q pairs (row,
label of the row). r is (C, C), [i, j], see `core/concurrent_rate.py`; its diagonal is
0, and so are the row and the column of the background.

Deviations: whether a row's sum is divided by its number of labels is not stated where
we could read the paper: `label_reduction`.

Everything is a logsumexp of z_j + log(1 - r_ij): exact for logits of +-200 and r = 1.
The work is Q x (C + 1), never N x C x C.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import with_closed_gradient
from mmdet_imbalance.core.concurrent_rate import log_keep_matrix
from mmdet_imbalance.core.label_sets import (
    LabelPairs,
    label_pairs,
    labels_or_sets,
)
from mmdet_imbalance.core.precision import at_least_float32

#: Difference of logits up to which exponentials in float64 tell them apart.
_SPREAD = 700.0

LABEL_REDUCTIONS = ('sum', 'mean')


def concurrent_softmax_loss(
    logits: Tensor,
    target: Tensor,
    concurrent_rate: Tensor | None = None,
    label_reduction: str = 'sum',
    ignore: Tensor | None = None,
) -> Tensor:
    """Concurrent softmax loss of each row.

    Args:
        logits: (N, C + 1), background last; nan gives nan.
        target: int (N,) in [0, C], or multi-hot (N, C + 1) with at least one label a
            row, whose background column excludes all others.
        concurrent_rate: (C, C) in [0, 1], the diagonal is ignored; None is 0.
        label_reduction: 'sum' over the labels of a row, or 'mean'.
        ignore: bool (N, C + 1), classes that are neither positive nor negative for
            the row (descendants of its labels); a positive is never ignored.

    Returns:
        (N,), float32 (float64 for float64 logits). Differentiable once.
    """
    _check_label_reduction(label_reduction)
    logits = _check_logits(logits)
    num_classes = logits.size(1) - 1
    log_keep = None if concurrent_rate is None else _log_keep(concurrent_rate, logits)
    labels, sets = labels_or_sets(target, logits, num_classes, ignore)
    if sets is not None:
        _check_multi_hot(sets)
        sets = sets[:, :-1]
    if ignore is not None and sets is None:
        sets = F.one_hot(labels, num_classes + 1)[:, :-1].bool()
    return concurrent_softmax_terms(
        logits, labels, None, sets, log_keep, ignore, None, None, label_reduction
    )


def concurrent_softmax(logits: Tensor, concurrent_rate: Tensor | None = None) -> Tensor:
    """Test-time scores; the background competes with every class.

    Args:
        logits: (N, C + 1), background last; nan gives a row of nan.
        concurrent_rate: (C, C) in [0, 1], the diagonal is ignored; None is 0.

    Returns:
        (N, C + 1) in [0, 1], float32 (float64 for float64 logits). Rows do not sum to
        1 where classes are concurrent.
    """
    logits = _check_logits(logits)
    if concurrent_rate is None:
        return logits.softmax(dim=1)
    return concurrent_softmax_scores(logits, _log_keep(concurrent_rate, logits).exp())


def concurrent_softmax_scores(logits: Tensor, keep: Tensor) -> Tensor:
    """`concurrent_softmax` with the ready factors 1 - r, (C + 1, C + 1)."""
    # All terms are positive, so a product of matrices loses nothing but what
    # underflows: float64 holds a spread of 700, where float32 ends at 87.
    keep = keep.double()
    logits64 = logits.double()
    top = logits64.amax(dim=1, keepdim=True)
    exp = (logits64 - top).clamp(min=-_SPREAD).exp()
    scores = exp / (exp @ keep.t())
    if not torch.compiler.is_compiling() and logits.device.type == 'cpu':
        # Beyond, classes that do not compete with the top are compared by logarithms.
        wide = (top - logits64).amax(dim=1) > _SPREAD
        wide = wide.nonzero().squeeze(1)
        for rows in row_blocks(len(wide), keep.numel(), logits.device):
            terms = logits64[wide[rows], None] + keep.log()
            scores[wide[rows]] = (logits64[wide[rows]] - terms.logsumexp(dim=2)).exp()
    return scores.to(logits.dtype)


def concurrent_softmax_terms(
    logits: Tensor,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    log_keep: Tensor | None,
    ignore: Tensor | None,
    ancestors: Tensor | None,
    class_weight: Tensor | None,
    label_reduction: str,
    keeps_hierarchy: bool = False,
) -> Tensor:
    """The loss for every form of target, (N,); arguments are not checked.

    Args:
        logits: (N, C + 1), float32 or float64.
        labels: (N,); looked at without `label_sets` only.
        pos_inds: rows of `label_sets`, (P,); None where these are all rows.
        label_sets: bool (P, C), or None.
        log_keep: see `log_keep_matrix`; None is r = 0.
        ignore: bool (N, C + 1), or None.
        ancestors: bool (C, C), [child, ancestor], reflexive: ancestors of a label
            become labels, its descendants are ignored.
        class_weight: weight of each term, (C + 1,).
        label_reduction: 'sum' or 'mean'.
        keeps_hierarchy: whether `log_keep` alone says, for each class, that all its
            ancestors and descendants and theirs take no part: spares a mask where
            there are plain labels only.
    """
    if log_keep is not None:
        log_keep = log_keep.to(logits.dtype)
    if label_sets is None and ancestors is None and ignore is None:
        # One label a row: cross-entropy of shifted logits, with no work of our own.
        shifted = logits
        if log_keep is not None:
            shifted = log_keep.index_select(0, labels).add_(logits)
        loss = F.cross_entropy(shifted, labels, reduction='none')
        return loss if class_weight is None else loss * class_weight[labels]
    return _set_terms(
        logits,
        labels,
        pos_inds,
        label_sets,
        log_keep,
        ignore,
        ancestors,
        class_weight,
        label_reduction == 'mean',
        keeps_hierarchy and label_sets is None and ignore is None,
    )[0]


# The number of pairs depends on the data, which a compiler cannot trace: an operator of
# its own, with the gradient in closed form, keeps graphs whole and saves temporaries.
@with_closed_gradient('mmdet_imbalance::concurrent_softmax_sets')
def _set_terms(
    logits: Tensor,
    labels: Tensor | None,
    pos_inds: Tensor | None,
    label_sets: Tensor | None,
    log_keep: Tensor | None,
    ignore: Tensor | None,
    ancestors: Tensor | None,
    class_weight: Tensor | None,
    is_mean: bool,
    is_complete: bool,
) -> tuple[Tensor, Tensor]:
    """Loss (N,) and its gradient (N, C + 1)."""
    num_classes = logits.size(1) - 1
    if ignore is None:
        grad = F.log_softmax(logits, dim=1)
    else:
        blocked = ignore.clone()
        blocked[:, -1] = False
        grad = F.log_softmax(logits.masked_fill(blocked, -torch.inf), dim=1)
    # 1. All rows as background rows: plain cross-entropy.
    loss = -grad[:, -1]
    grad.exp_()[:, -1] -= 1.0
    if class_weight is not None:
        loss, grad = loss * class_weight[-1], grad.mul_(class_weight[-1])
    # 2. The positive rows instead: a cross-entropy for each label, in which the other
    #    labels of the row and what is ignored do not occur.
    pairs = label_pairs(labels, num_classes, pos_inds, label_sets, ancestors)
    share = logits.new_ones(len(pairs.rows))
    if is_mean:
        share = share / pairs.num_labels[pairs.owner]
    if class_weight is not None:
        share = share * class_weight[pairs.classes]
    is_single = pairs.label_sets is None and ignore is None
    out = None if is_complete or is_single else _left_out(pairs, ignore)
    loss = loss.index_fill(0, pairs.pos_rows, 0.0)
    grad.index_fill_(0, pairs.pos_rows, 0.0)
    for block in row_blocks(len(pairs.rows), num_classes + 1, logits.device):
        rows, classes = pairs.rows[block], pairs.classes[block, None]
        terms = logits.index_select(0, rows)
        own = terms.gather(1, classes)
        if log_keep is not None:
            terms += log_keep.index_select(0, classes.squeeze(1))
        if out is not None:
            terms.masked_fill_(out.index_select(0, pairs.owner[block]), -torch.inf)
            terms.scatter_(1, classes, own)
        terms = F.log_softmax(terms, dim=1)
        term = terms.gather(1, classes)
        loss.index_add_(0, rows, -share[block] * term.squeeze(1))
        terms.exp_().scatter_(1, classes, term.expm1_())
        grad.index_add_(0, rows, terms.mul_(share[block, None]))
    return loss, grad


def _left_out(pairs: LabelPairs, ignore: Tensor | None) -> Tensor:
    """What takes no part in the terms of each positive row, bool (P, C + 1)."""
    out = pairs.label_sets
    if pairs.ignored is not None:
        out = out | pairs.ignored
    out = F.pad(out, (0, 1))
    return out if ignore is None else out | ignore.index_select(0, pairs.pos_rows)


def _check_label_reduction(label_reduction: str) -> None:
    if label_reduction not in LABEL_REDUCTIONS:
        raise ValueError(
            f'`label_reduction` must be one of {LABEL_REDUCTIONS}, got '
            f'{label_reduction!r}'
        )


def _check_logits(logits: Tensor) -> Tensor:
    if logits.ndim != 2 or logits.size(1) < 2:
        raise ValueError(
            f'`logits` must have shape (N, C + 1), got {tuple(logits.shape)}'
        )
    return at_least_float32(logits)


def _log_keep(rate: Tensor, logits: Tensor) -> Tensor:
    # In float64 for float64 logits, whatever the dtype of the rate.
    log_keep = log_keep_matrix(rate.to(logits.device, logits.dtype))
    if len(log_keep) != logits.size(1):
        raise ValueError(
            f'`concurrent_rate` is of {len(rate)} classes, but `logits` of '
            f'{logits.size(1) - 1} classes and the background'
        )
    return log_keep


def _check_multi_hot(sets: Tensor) -> None:
    if torch.compiler.is_compiling():
        return
    num = sets.sum(dim=1)
    bad = (num == 0) | (sets[:, -1] & (num > 1))
    if bad.any():
        row = int(bad.int().argmax())
        what = 'no label' if num[row] == 0 else 'the background and other labels'
        raise ValueError(
            '`target` must hold, in each row, foreground labels or the background '
            f'alone, but row {row} has {what}'
        )
