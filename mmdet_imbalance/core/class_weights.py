"""Weights of classes from their counts, and the rule a config may name them by.

Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
https://arxiv.org/abs/1901.05555, section 4: E_n = (1 - beta^n) / (1 - beta), weight
1 / E_n.

Shapes: C foreground classes (background is index C). A class weight multiplies the
whole loss of a row of that class: its cross-entropy, or all C binary terms.

Deviations, because the paper has neither a background nor classes without samples:

* A class of count 0 weighs as one of count 1 and stays out of the normalisation, so
  the weights sum to the number of classes that have a count.
* The background weighs 1 (to choose) and stays out of the normalisation.
* Counts are of instances (`count='image'`: of images).
* `normalize='object'` gives the weights a mean of 1 over the objects in place of the
  classes. Where most objects belong to classes of small weight, a mean over classes
  leaves an object a small part of what it weighs beside a background of 1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

#: Rules of `class_weight=dict(type=…)` and the keys each takes beside the shared ones.
WEIGHT_RULES = {
    'effective_num': ('beta',),
    'inverse': (),
    'inverse_sqrt': (),
}
SHARED_KEYS = ('type', 'count', 'background', 'normalize')
NORMALIZATIONS = ('class', 'object')
COUNTS = {'instance': 'instance_count', 'image': 'img_count'}


def effective_num_weights(counts: Tensor, beta: float) -> Tensor:
    """Inverse effective number of samples of each class, normalised.

    Args:
        counts: samples of each class, (C,), not negative.
        beta: in [0, 1): 0 weighs all classes alike, towards 1 the weights become the
            inverse counts. The paper uses 0.999 or 0.9999.

    Returns:
        float32 (C,), summing to the number of classes with a count.

    Raises:
        ValueError: `beta` outside [0, 1), or counts that are negative or not finite.
    """
    _check_beta(beta)
    counts = _check_counts(counts)
    # 1 - beta^n by expm1: near beta = 1 the subtraction would lose all digits.
    log_beta = torch.tensor(beta, dtype=torch.float64).log()
    unseen = -torch.expm1(counts.clamp(min=1.0) * log_beta.to(counts.device))
    return _normalise((1.0 - beta) / unseen, counts)


def inverse_count_weights(counts: Tensor, exponent: float = 1.0) -> Tensor:
    """Weights n^-exponent, normalised.

    Args:
        counts: samples of each class, (C,), not negative.
        exponent: 1 is the inverse count, 0.5 its square root, 0 no weights.

    Returns:
        float32 (C,), summing to the number of classes with a count.

    Raises:
        ValueError: a negative exponent, or counts that are negative or not finite.
    """
    if not exponent >= 0.0:
        raise ValueError(f'`exponent` must not be negative, got {exponent}')
    counts = _check_counts(counts)
    return _normalise(counts.clamp(min=1.0) ** -exponent, counts)


def needs_class_stats(class_weight) -> bool:
    """Whether a `class_weight` of a config is a rule on counts."""
    return isinstance(class_weight, Mapping)


def class_weight_vector(class_weight, num_classes: int, stats=None) -> Tensor:
    """Weights of all classes and the background from what a config says.

    Args:
        class_weight: C numbers (background 1), C + 1 numbers (background last), or a
            rule `dict(type='effective_num', beta=…)`, `dict(type='inverse')`,
            `dict(type='inverse_sqrt')`, each with the optional keys
            `count='instance' | 'image'`, `background=1.0` and
            `normalize='class' | 'object'`, over which the weights have a mean of 1.
        num_classes: number C of foreground classes.
        stats: `ClassStats`, for rules.

    Returns:
        float32 (C + 1,).
    """
    if not needs_class_stats(class_weight):
        return _from_list(class_weight, num_classes)
    check_rule(class_weight)
    kind = class_weight['type']
    if stats is None:
        raise ValueError(f'`class_weight` of type {kind!r} needs class statistics')
    counts = getattr(stats, COUNTS[class_weight.get('count', 'instance')])
    counts = torch.as_tensor(np.asarray(counts))
    if kind == 'effective_num':
        weights = effective_num_weights(counts, class_weight['beta'])
    else:
        weights = inverse_count_weights(counts, 1.0 if kind == 'inverse' else 0.5)
    if class_weight.get('normalize', 'class') == 'object':
        weights = _normalise_over_objects(weights, stats.instance_count)
    background = class_weight.get('background', 1.0)
    return _from_list([*weights.tolist(), background], num_classes)


def check_rule(rule: Mapping) -> None:
    """Raise ValueError for a rule of `class_weight_vector` that names no weights."""
    kind = rule.get('type')
    if kind not in WEIGHT_RULES:
        raise ValueError(
            f'`class_weight` must have one of the types {sorted(WEIGHT_RULES)}, got '
            f'{kind!r}'
        )
    unknown = sorted(set(rule) - set(SHARED_KEYS) - set(WEIGHT_RULES[kind]))
    if unknown:
        raise ValueError(f'`class_weight` of type {kind!r} has no key(s) {unknown}')
    missing = sorted(set(WEIGHT_RULES[kind]) - set(rule))
    if missing:
        raise ValueError(f'`class_weight` of type {kind!r} needs `{missing[0]}`')
    if rule.get('count', 'instance') not in COUNTS:
        raise ValueError(
            f'`class_weight` counts one of {sorted(COUNTS)}, got '
            f'count={rule["count"]!r}'
        )
    if rule.get('normalize', 'class') not in NORMALIZATIONS:
        raise ValueError(
            f'`class_weight` has a mean of 1 over one of {NORMALIZATIONS}, got '
            f'normalize={rule["normalize"]!r}'
        )
    if 'beta' in rule:
        _check_beta(rule['beta'])
    if not 0.0 <= rule.get('background', 1.0) < float('inf'):
        raise ValueError(
            f'`class_weight` needs a finite background that is not negative, got '
            f'{rule["background"]}'
        )


def _check_beta(beta: float) -> None:
    if not 0.0 <= beta < 1.0:
        raise ValueError(
            f'`beta` must be in [0, 1), got {beta}; its limit 1 is the inverse count: '
            "inverse_count_weights, or the type 'inverse' in a config"
        )


def _check_counts(counts: Tensor) -> Tensor:
    counts = torch.as_tensor(counts).double()
    if counts.ndim != 1:
        raise ValueError(f'`counts` must have shape (C,), got {tuple(counts.shape)}')
    bad = ~((counts >= 0) & counts.isfinite())
    if bad.any():
        label = int(bad.int().argmax())
        raise ValueError(
            f'`counts` must be finite and not negative, got {float(counts[label])} for '
            f'class {label}'
        )
    return counts


def _normalise(weights: Tensor, counts: Tensor) -> Tensor:
    seen = counts > 0
    total = (weights * seen).sum()
    # Without any count there is nothing to normalise by, and all weights are 1.
    scale = seen.sum() / torch.where(seen.any(), total, torch.ones_like(total))
    return torch.where(seen.any(), weights * scale, torch.ones_like(weights)).float()


def _normalise_over_objects(weights: Tensor, num_objects) -> Tensor:
    """Weights with a mean of 1 over objects, whatever was counted for them."""
    num_objects = torch.as_tensor(np.asarray(num_objects), dtype=torch.float64)
    total = (weights.double() * num_objects).sum()
    if not total > 0:
        return weights
    return (weights.double() * (num_objects.sum() / total)).float()


def _from_list(values: Sequence[float], num_classes: int) -> Tensor:
    weights = torch.as_tensor(values, dtype=torch.float32)
    if weights.ndim != 1 or len(weights) not in (num_classes, num_classes + 1):
        raise ValueError(
            f'`class_weight` must be {num_classes} numbers, or {num_classes + 1} with '
            f'the background last, got shape {tuple(weights.shape)}'
        )
    bad = ~(weights.isfinite() & (weights >= 0))
    if bad.any():
        label = int(bad.int().argmax())
        raise ValueError(
            f'`class_weight` must be finite and not negative, got '
            f'{float(weights[label])} for class {label}'
        )
    if len(weights) == num_classes:
        weights = torch.cat([weights, weights.new_ones(1)])
    return weights
