"""Slow, obvious choices of RoIs, written from the papers with loops and floats."""

from itertools import permutations


def foreground_balanced(labels):
    classes = set(labels)
    return [1.0 / (len(classes) * labels.count(label)) for label in labels]


def successive_draws(probs, num):
    """Probability of each ordered choice when what is left is renormalised."""
    result = {}
    for order in permutations(range(len(probs)), num):
        left, probability = sum(probs), 1.0
        for index in order:
            probability *= probs[index] / left
            left -= probs[index]
        result[order] = probability
    return result


def equal_shares(sizes, num):
    """How many each group gives at least and at most when they take turns."""
    given = [0] * len(sizes)
    while num > 0:
        able = [g for g, size in enumerate(sizes) if given[g] < size]
        if len(able) == 0:
            break
        if len(able) > num:
            return given, [n + (g in able) for g, n in enumerate(given)]
        for g in able:
            given[g] += 1
        num -= len(able)
    return given, given


def greedy_nms(boxes, scores, threshold):
    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        inter = max(width, 0) * max(height, 0)
        area = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
        return inter / (sum(area) - inter)

    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept
