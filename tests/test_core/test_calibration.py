"""Test-time calibration against the formulas of the papers, written as loops."""

import math

import pytest
import torch
from torch import nn

from mmdet_imbalance.core.calibration import (
    logit_adjustment,
    norcal,
    tau_normalization,
)

COUNTS = torch.tensor([100, 10, 1, 0])


def rows(num=6, columns=5):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, columns, generator=generator, dtype=torch.float64)


def test_norcal_is_the_papers_formula():
    """p(y) = exp(f_y) / N_y^gamma / (sum of these + exp(background))."""
    logits, gamma = rows(), 0.6
    scores = norcal(logits, COUNTS, gamma).softmax(dim=1)
    for row, got in zip(logits.tolist(), scores.tolist(), strict=True):
        parts = [
            math.exp(f) / max(n, 1) ** gamma
            for f, n in zip(row[:4], COUNTS.tolist(), strict=True)
        ]
        parts.append(math.exp(row[4]))
        assert got == pytest.approx([part / sum(parts) for part in parts])


def test_logit_adjustment_is_the_papers_formula_among_classes():
    """Softmax over classes alone: proportional to exp(f_y) / pi_y^tau."""
    logits, tau = rows(), 0.8
    got = logit_adjustment(logits, COUNTS, tau)
    total = sum(max(n, 1) for n in COUNTS.tolist())
    for row, scores in zip(
        logits.tolist(), got[:, :4].softmax(dim=1).tolist(), strict=True
    ):
        parts = [
            math.exp(f) / (max(n, 1) / total) ** tau
            for f, n in zip(row[:4], COUNTS.tolist(), strict=True)
        ]
        assert scores == pytest.approx([part / sum(parts) for part in parts])
    # The most frequent class and the background stay, rarer classes gain.
    torch.testing.assert_close(got[:, [0, 4]], logits[:, [0, 4]])
    assert (got[:, 2] > logits[:, 2]).all()


@pytest.mark.parametrize('method', [logit_adjustment, norcal])
def test_shifts_keep_their_laws(method):
    logits = rows()
    torch.testing.assert_close(method(logits, COUNTS, 0.0), logits)
    equal = torch.full((4,), 7)
    shift = method(logits, equal, 0.5) - logits
    torch.testing.assert_close(shift[:, :4], shift[:1, :1].expand(6, 4))
    twice = method(method(logits, COUNTS, 0.3), COUNTS, 0.4)
    torch.testing.assert_close(twice, method(logits, COUNTS, 0.7))
    order = torch.tensor([2, 0, 3, 1])
    permuted = method(logits[:, [*order, 4]], COUNTS[order], 0.5)
    torch.testing.assert_close(permuted, method(logits, COUNTS, 0.5)[:, [*order, 4]])
    sigmoid = method(logits[:, :4], COUNTS, 0.5)
    torch.testing.assert_close(sigmoid, method(logits, COUNTS, 0.5)[:, :4])
    with pytest.raises(ValueError, match=r'`counts` must have shape'):
        method(logits, torch.ones(6), 0.5)


@pytest.mark.parametrize('bias', [True, False])
def test_tau_normalisation_is_a_classifier_with_scaled_weights(bias):
    torch.manual_seed(0)
    layer = nn.Linear(7, 4, bias=bias).double()
    layer.weight.data *= torch.tensor([[4.0], [1.0], [0.3], [1.5]])
    features = torch.randn(5, 7, dtype=torch.float64)
    norm = layer.weight.norm(dim=1)
    for tau in (0.0, 0.5, 1.0):
        weight = layer.weight / norm[:, None] ** tau * norm.log().mean().exp() ** tau
        expected = nn.functional.linear(features, weight, layer.bias)
        got = tau_normalization(layer(features), layer.weight, layer.bias, tau)
        torch.testing.assert_close(got, expected)
    equal = weight.norm(dim=1)
    torch.testing.assert_close(equal, equal[:1].expand(4))
