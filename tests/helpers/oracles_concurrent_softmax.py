"""Concurrent softmax by loops over Python floats, from the equations of the paper."""

import math


def loss_loop(logits, label_sets, rate, label_mean=False, ignore=None):
    """Loss of each row; `label_sets` holds sets of labels, background is the last.

    `rate[i][j]` is (C, C); a class of `ignore[n]` takes no part as a negative.
    """
    losses = []
    num_classes = len(logits[0]) - 1
    for n, row in enumerate(logits):
        total = 0.0
        for i in label_sets[n]:
            top = max(row)
            denominator = math.exp(row[i] - top)
            for j in range(num_classes + 1):
                if j == i or j in label_sets[n]:
                    continue
                if ignore is not None and j in ignore[n]:
                    continue
                is_bg = num_classes in (i, j)
                keep = 1.0 if is_bg else 1.0 - rate[i][j]
                denominator += keep * math.exp(row[j] - top)
            total -= math.log(math.exp(row[i] - top) / denominator)
        losses.append(total / len(label_sets[n]) if label_mean else total)
    return losses


def scores_loop(logits, rate):
    """Test-time scores of each row."""
    scores = []
    num_classes = len(logits[0]) - 1
    for row in logits:
        of_row = []
        for i, z in enumerate(row):
            denominator = 1.0
            for j, other in enumerate(row):
                if j != i:
                    is_bg = num_classes in (i, j)
                    keep = 1.0 if is_bg else 1.0 - rate[i][j]
                    denominator += keep * math.exp(other - z)
            of_row.append(1.0 / denominator)
        scores.append(of_row)
    return scores


def gradient_loop(logits, label_sets, rate):
    """dL/dz of each row: s_i - 1 for a label, its kept share for a negative."""
    num_classes = len(logits[0]) - 1
    gradients = []
    for n, row in enumerate(logits):
        gradient = [0.0] * len(row)
        for i in label_sets[n]:
            share = {i: math.exp(row[i])}
            for j in range(num_classes + 1):
                if j not in label_sets[n]:
                    is_bg = num_classes in (i, j)
                    share[j] = (1.0 if is_bg else 1.0 - rate[i][j]) * math.exp(row[j])
            whole = sum(share.values())
            for j, part in share.items():
                gradient[j] += part / whole - (1.0 if j == i else 0.0)
        gradients.append(gradient)
    return gradients
