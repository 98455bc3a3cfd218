"""Loops written from the formulas of the GHM paper, Python floats only."""

import math


def bin_of(gradient_norm, num_bins):
    """Bin of width 1 / K; a norm of 1 belongs to the last one."""
    return min(int(gradient_norm * num_bins), num_bins - 1)


def _harmonise(terms, num_bins, normalize_by):
    """Weighted mean and weights of terms (gradient norm, loss), None if ignored."""
    members = [0] * num_bins
    for term in terms:
        if term is not None:
            members[bin_of(term[0], num_bins)] += 1
    total = sum(members)
    filled = sum(1 for m in members if m > 0)
    bins = filled if normalize_by == 'nonempty_bins' else num_bins
    loss, weights = 0.0, []
    for term in terms:
        if term is None:
            weights.append(0.0)
            continue
        beta = total / (bins * members[bin_of(term[0], num_bins)])
        weights.append(beta)
        loss += beta * term[1]
    return (loss / total if total else 0.0), weights


def ghm_c(logits, target, valid, num_bins, normalize_by):
    """GHM-C over nested lists; weights flattened."""
    terms = []
    for z_row, y_row, v_row in zip(logits, target, valid, strict=True):
        for z, y, v in zip(z_row, y_row, v_row, strict=True):
            if not v:
                terms.append(None)
                continue
            p = 1.0 / (1.0 + math.exp(-z))
            loss = -math.log(p) if y else -math.log(1.0 - p)
            terms.append((abs(p - y), loss))
    return _harmonise(terms, num_bins, normalize_by)


def ghm_r(pred, target, valid, mu, num_bins, normalize_by):
    """GHM-R over nested lists; weights flattened."""
    terms = []
    for x_row, y_row, v_row in zip(pred, target, valid, strict=True):
        for x, y, v in zip(x_row, y_row, v_row, strict=True):
            root = math.sqrt((x - y) ** 2 + mu**2)
            terms.append((abs(x - y) / root, root - mu) if v else None)
    return _harmonise(terms, num_bins, normalize_by)
