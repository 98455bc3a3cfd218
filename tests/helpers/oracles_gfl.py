"""Loops written from the formulas of the GFL paper, Python floats only."""

import math


def quality_focal(logits, label_sets, quality, beta):
    """QFL of each row; `label_sets` holds the set of labels of each row."""
    rows = []
    for z_row, labels, y_row in zip(logits, label_sets, quality, strict=True):
        loss = 0.0
        for j, z in enumerate(z_row):
            s = 1.0 / (1.0 + math.exp(-z))
            y = y_row if j in labels else 0.0
            entropy = (1 - y) * math.log(1 - s) + y * math.log(s)
            loss -= abs(y - s) ** beta * entropy
        rows.append(loss)
    return rows


def distribution_focal(logits, target):
    rows = []
    for z_row, y in zip(logits, target, strict=True):
        total = sum(math.exp(z) for z in z_row)
        i = min(math.floor(y), len(z_row) - 2)
        left, right = math.exp(z_row[i]) / total, math.exp(z_row[i + 1]) / total
        rows.append(-((i + 1 - y) * math.log(left) + (y - i) * math.log(right)))
    return rows
