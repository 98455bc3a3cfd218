"""Test-time calibration against the formulas of the papers, written as loops."""

import math

import pytest
import torch
from torch import nn

from mmdet_imbalance.core.calibration import (
    fractal_calibration,
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


DIMENSION = torch.tensor([1.9, 1.5, 1.0, 1.0])


def frequency_term(count):
    """-log10(n_y / sum n) + log10(1 / C), as the paper writes it."""
    counts = [max(n, 1) for n in COUNTS.tolist()]
    return -math.log10(count / sum(counts)) + math.log10(1 / len(counts))


@pytest.mark.parametrize('exponent', [0.0, 1.0, 2.0])
def test_fractal_calibration_of_a_softmax_is_the_papers_formula(exponent):
    """Shift by frequency, softmax, divide by Phi^lambda, normalise again."""
    logits = rows()
    got = fractal_calibration(logits, COUNTS, DIMENSION, 1.0, exponent).softmax(dim=1)
    for row, scores in zip(logits.tolist(), got.tolist(), strict=True):
        shifted = [
            math.exp(z + frequency_term(max(n, 1)))
            for z, n in zip(row[:4], COUNTS.tolist(), strict=True)
        ]
        shifted.append(math.exp(row[4]))
        parts = [p / sum(shifted) for p in shifted]
        phi = [*DIMENSION.tolist(), 1.0]
        parts = [p / f**exponent for p, f in zip(parts, phi, strict=True)]
        assert scores == pytest.approx([p / sum(parts) for p in parts], rel=1e-6)


@pytest.mark.parametrize('exponent', [0.0, 2.0])
def test_fractal_calibration_of_a_sigmoid_is_the_papers_formula(exponent):
    """eta(z) times eta of the logit shifted by frequency and by space."""
    logits = rows(columns=4)
    got = fractal_calibration(logits, COUNTS, DIMENSION, 1.0, exponent).sigmoid()
    total = sum(f**exponent for f in DIMENSION.tolist())
    for row, scores in zip(logits.tolist(), got.tolist(), strict=True):
        for z, n, phi, score in zip(
            row, COUNTS.tolist(), DIMENSION.tolist(), scores, strict=True
        ):
            space = -math.log10(phi**exponent / total) + math.log10(1 / 4)
            shifted = z + frequency_term(max(n, 1)) + space
            expected = 1 / (1 + math.exp(-z)) / (1 + math.exp(-shifted))
            assert score == pytest.approx(expected, rel=1e-6)
    # Far from zero there is neither infinity nor nan.
    far = fractal_calibration(
        torch.tensor([[-200.0, 200.0, 0, 0]]), COUNTS, DIMENSION, 1.0
    )
    assert torch.isfinite(far).all()


def test_fractal_calibration_keeps_its_laws():
    logits = rows()
    torch.testing.assert_close(
        fractal_calibration(logits, COUNTS, DIMENSION, 0.0), logits
    )
    equal = torch.full((4,), 7)
    even = torch.full((4,), 1.0)
    torch.testing.assert_close(fractal_calibration(logits, equal, even, 1.0), logits)
    got = fractal_calibration(logits, COUNTS, DIMENSION, 1.0) - logits
    # The background stays; the rarer and the less spread a class, the more it gains.
    torch.testing.assert_close(got[:, 4], torch.zeros(6, dtype=got.dtype))
    assert (got[:, 0] < got[:, 1]).all()
    assert (got[:, 1] < got[:, 2]).all()
    with pytest.raises(ValueError, match=r'`dimension` must have the shape \(4,\)'):
        fractal_calibration(logits, COUNTS, DIMENSION[:3], 1.0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_counts_that_half_precision_cannot_hold(dtype):
    logits, counts = torch.zeros(1, 4, dtype=dtype), torch.tensor([1000001, 70000, 3])
    dimension = torch.tensor([1.0, 1.5, 2.0])
    for calibrate, others in (
        (logit_adjustment, ()),
        (norcal, ()),
        (fractal_calibration, (dimension,)),
    ):
        full = (counts, *others, 1.0)
        torch.testing.assert_close(
            calibrate(logits, *full), calibrate(logits.float(), *full)
        )
        assert calibrate(logits, *full).isfinite().all()


def test_tau_normalisation_leaves_a_class_without_weights_alone():
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.6, 0.8]])
    logits = torch.tensor([[0.25, 5.0, 2.0]])
    got = tau_normalization(logits, weight, None, 1.0)
    # Norms 5 and 1: the geometric mean is the root of 5.
    root = math.sqrt(5.0)
    torch.testing.assert_close(got, torch.tensor([[0.25, root, 2.0 * root]]))
    with pytest.raises(ValueError, match='row for each of the 3 columns'):
        tau_normalization(logits, weight[:2], None, 0.5)
