"""Loops written from the formulas of the affinity paper, Python floats only."""

import math


def affinity(features, prototypes, prototype_class, sigma):
    """Similarity of each feature to each class that owns a prototype."""
    rows = []
    for f in features:
        row = []
        for c in sorted(set(prototype_class)):
            best = 0.0
            for w, owner in zip(prototypes, prototype_class, strict=True):
                if owner == c:
                    distance = sum((a - b) ** 2 for a, b in zip(f, w, strict=True))
                    best = max(best, math.exp(-distance / sigma))
            row.append(best)
        rows.append(row)
    return rows


def max_margin(similarity, labels, margin):
    """Sum of the hinges of the wrong classes, per row."""
    losses = []
    for row, y in zip(similarity, labels, strict=True):
        loss = 0.0
        for j, d in enumerate(row):
            if j != y:
                loss += max(0.0, margin + d - row[y])
        losses.append(loss)
    return losses


def diversity(prototypes):
    """Spread of the squared distances over pairs j < k."""
    squared = []
    for j in range(len(prototypes)):
        for k in range(j + 1, len(prototypes)):
            squared.append(
                sum(
                    (a - b) ** 2
                    for a, b in zip(prototypes[j], prototypes[k], strict=True)
                )
            )
    if not squared:
        return 0.0
    mu = sum(squared) / len(squared)
    return sum((s - mu) ** 2 for s in squared)
