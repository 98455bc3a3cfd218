"""Class weights, focal terms and shared targets by loops over Python floats."""

import math


def effective_num_loop(counts, beta):
    """Inverse of (1 - beta^n) / (1 - beta) as the sum of the powers of beta."""
    weights = []
    for count in counts:
        effective = sum(beta**k for k in range(max(int(count), 1)))
        weights.append(1.0 / effective)
    seen = [w for w, count in zip(weights, counts, strict=True) if count > 0]
    scale = len(seen) / sum(seen)
    return [w * scale for w in weights]


def log_sigmoid(z):
    return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))


def focal_loop(logits, label_sets, gamma, alpha=None, ignore=None):
    """Sum over classes of -alpha_t (1 - p_t)^gamma log p_t."""
    losses = []
    for n, row in enumerate(logits):
        total = 0.0
        for c, z in enumerate(row):
            is_label = c in label_sets[n]
            if not is_label and ignore is not None and c in ignore[n]:
                continue
            log_pt = log_sigmoid(z if is_label else -z)
            term = -((1.0 - math.exp(log_pt)) ** gamma) * log_pt
            if alpha is not None:
                term *= alpha if is_label else 1.0 - alpha
            total += term
        losses.append(total)
    return losses


def shared_softmax_loop(logits, label_sets, ignore=None, class_weight=None):
    """-1/k sum of log softmax over the k labels; ignored classes do not exist."""
    losses = []
    for n, row in enumerate(logits):
        hidden = ignore[n] - label_sets[n] if ignore is not None else set()
        whole = sum(math.exp(z) for c, z in enumerate(row) if c not in hidden)
        total = 0.0
        for label in label_sets[n]:
            weight = 1.0 if class_weight is None else class_weight[label]
            total -= weight * math.log(math.exp(row[label]) / whole)
        losses.append(total / len(label_sets[n]))
    return losses
