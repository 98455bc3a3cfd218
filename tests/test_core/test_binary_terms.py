import math

import pytest
import torch

from mmdet_imbalance.core.binary_terms import (
    negative_sums_,
    negative_terms_,
    softplus,
    softplus_sums,
)


def softplus_loop(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def sigmoid_loop(z):
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


@pytest.mark.parametrize('num_classes', [1, 2, 7, 15, 16, 17, 64, 129, 1203])
@pytest.mark.parametrize('scale', [1.0, 200.0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_sums_equal_the_loop(num_classes, scale, dtype):
    gen = torch.Generator().manual_seed(num_classes)
    z = scale * torch.randn(4, num_classes, generator=gen, dtype=torch.float64)
    z = z.to(dtype)
    expected = torch.tensor(
        [math.fsum(map(softplus_loop, row)) for row in z.tolist()], dtype=torch.float64
    )
    tolerance = dict(rtol=2e-6 if dtype == torch.float32 else 1e-13, atol=0)
    torch.testing.assert_close(softplus_sums(z).double(), expected, **tolerance)
    torch.testing.assert_close(softplus(z).double().sum(1), expected, **tolerance)


def test_confident_terms_keep_their_digits():
    # 1 + exp(-20) is 1 in float32: a product of such factors would say 0.
    z = torch.full((1, 1203), -20.0)
    expected = 1203 * math.log1p(math.exp(-20.0))
    torch.testing.assert_close(
        softplus_sums(z), torch.tensor([expected]), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0, 3.3])
def test_terms_and_derivatives_equal_the_loop(gamma):
    values = [-1e4, -200.0, -30.0, -3.0, -0.2, 0.0, 0.7, 5.0, 30.0, 200.0, 1e4]
    z = torch.tensor(values, dtype=torch.float64)
    expected = [sigmoid_loop(x) ** gamma * softplus_loop(x) for x in values]
    slope = [
        sigmoid_loop(x) ** gamma
        * (sigmoid_loop(x) + gamma * sigmoid_loop(-x) * softplus_loop(x))
        for x in values
    ]
    matrix = z.repeat(2, 1)
    torch.testing.assert_close(negative_terms_(z, gamma).tolist(), expected)
    torch.testing.assert_close(z.tolist(), slope)
    sums = negative_sums_(matrix, gamma)
    torch.testing.assert_close(sums.tolist(), 2 * [math.fsum(expected)])
    torch.testing.assert_close(matrix.tolist(), 2 * [slope])


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0])
def test_ignored_terms_are_nothing_and_nan_is_seen(gamma):
    z = torch.tensor([[-torch.inf] * 20, [torch.nan] + [1.0] * 19])
    sums = negative_sums_(z, gamma)
    assert sums[0] == 0
    assert (z[0] == 0).all()
    assert sums[1].isnan()
