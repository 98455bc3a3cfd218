"""Loops written from the formulas of the class-aware selective loss paper."""

import math


def asymmetric(logits, target, gamma_pos, gamma_neg, gamma_unann, weight=None):
    """Unreduced loss, list of rows; `weight` is for un-annotated entries."""
    rows = []
    for n, row in enumerate(logits):
        out = []
        for c, z in enumerate(row):
            p = 1.0 / (1.0 + math.exp(-z))
            if target[n][c] == 1:
                loss = -((1 - p) ** gamma_pos) * math.log(p)
            elif target[n][c] == 0:
                loss = -(p**gamma_neg) * math.log(1 - p)
            else:
                loss = -(p**gamma_unann) * math.log(1 - p)
                loss *= 1.0 if weight is None else weight[n][c]
            out.append(loss)
        rows.append(out)
    return rows


def ignored(scores, target, top_k, prior=None, prior_thr=None, scope='sample'):
    """Entries that the loss leaves out."""
    num, classes = len(scores), len(scores[0])
    mask = [[False] * classes for _ in range(num)]
    free = [
        (scores[n][c], n, c)
        for n in range(num)
        for c in range(classes)
        if target[n][c] == -1
    ]
    if scope == 'batch':
        groups = [(free, top_k * num)]
    else:
        groups = [([f for f in free if f[1] == n], top_k) for n in range(num)]
    for entries, k in groups:
        for _, n, c in sorted(entries, reverse=True)[:k]:
            mask[n][c] = True
    for _, n, c in free:
        if prior is not None and prior[c] > prior_thr:
            mask[n][c] = True
    return mask


def target_of_roi(label, present, absent, incomplete, ancestors):
    """Partial target of one RoI; sets of classes, `ancestors[c]` includes c."""
    classes = range(len(ancestors))
    present = {a for c in present for a in ancestors[c]}
    absent = {d for d in classes if ancestors[d] & absent}
    incomplete = {a for c in incomplete for a in ancestors[c]}
    row = []
    for c in classes:
        if label in classes and c in ancestors[label]:
            row.append(1)
        elif label in classes and label in ancestors[c]:
            row.append(
                0 if c in absent and c in (present | absent) - incomplete else -1
            )
        else:
            row.append(0 if c in (present | absent) - incomplete else -1)
    return row
