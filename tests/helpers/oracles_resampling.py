"""Slow, obvious sampling rules, written from the papers with loops and floats."""

import math


def soft_balance(img_count, exponent):
    raw = [count ** (1.0 - exponent) if count > 0 else 0.0 for count in img_count]
    return [value / sum(raw) for value in raw]


def image_probs(image_labels, num_classes, exponent):
    """Probability that one class-first draw shows each image."""
    shows = [set(labels) for labels in image_labels]
    img_count = [sum(c in one for one in shows) for c in range(num_classes)]
    class_probs = soft_balance(img_count, exponent)
    return [sum(class_probs[c] / img_count[c] for c in one) for one in shows]


def repeat_factor(labels, img_freq, threshold):
    factor = 1.0
    for label in labels:
        factor = max(factor, math.sqrt(threshold / img_freq[label]))
    return factor


def chi_square(observed, expected):
    """Statistic and degrees of freedom; nothing may appear where 0 is expected."""
    statistic, cells = 0.0, 0
    for seen, wanted in zip(observed, expected, strict=True):
        if wanted == 0:
            assert seen == 0
            continue
        statistic += (seen - wanted) ** 2 / wanted
        cells += 1
    return statistic, cells - 1


def chi_square_limit(degrees, sigmas=4.5):
    """A bound that a right sampler exceeds once in some 10^5 seeds."""
    # Wilson and Hilferty: the cube root of chi2 / degrees is nearly normal.
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + sigmas * math.sqrt(spread)) ** 3
