"""Terms of a binary cross-entropy, plain or focused, and their derivatives.

A term is that of a class which is *not* a label: softplus(z), or sigmoid(z)^gamma
softplus(z). The term of a label is that of -z; an ignored class has a logit of minus
infinity: both are exact.

Shapes: N rows, C classes. Deviations: none, these are the plain equations, arranged for
a CPU, on which a logarithm for each term costs more than all the rest. On other devices
torch's own softplus is one kernel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LOG2_E = 1.0 / math.log(2.0)
#: A product of 2^6 factors of at most 2 is far from the end of float32.
_HALVINGS = 6
#: Rows narrower than this are not worth halving.
_NARROW = 8
#: Exponents for which a power is a product, or nothing at all.
_SMALL_POWERS = {0.0, 1.0, 2.0}


def softplus(z: Tensor) -> Tensor:
    """log(1 + exp(z)), elementwise."""
    if z.device.type != 'cpu':
        return F.softplus(z)
    return _exp_of_minus_abs(z).log1p_().add_(z.clamp(min=0.0))


def softplus_sums(z: Tensor) -> Tensor:
    """Sum of log(1 + exp(z)) over each row, shape (N, C) to (N,).

    With e = exp(-|z|) a term is max(z, 0) + log(1 + e), and a sum of logarithms is the
    logarithm of a product: (1 + a)(1 + b) - 1 = a + b + ab keeps the digits of small
    terms, and spares all but one logarithm of 64.
    """
    if z.device.type != 'cpu':
        return F.softplus(z).sum(dim=1)
    product = _exp_of_minus_abs(z)
    for _ in range(_HALVINGS):
        half = product.size(1) // 2
        if half < _NARROW:
            break
        # An odd column in the middle belongs to the first half, with no partner.
        keep = product.size(1) - half
        left, right = product[:, :half], product[:, keep:]
        left.addcmul_(left, right).add_(right)
        product = product[:, :keep]
    return product.log1p_().sum(dim=1).add_(z.clamp(min=0.0).sum(dim=1))


def negative_terms_(z: Tensor, gamma: float) -> Tensor:
    """sigmoid(z)^gamma softplus(z), elementwise; `z` becomes its derivative."""
    if gamma == 0.0:
        loss = softplus(z)
        z.sigmoid_()
        return loss
    if gamma in _SMALL_POWERS:
        loss = softplus(z)
        prob = z.sigmoid_()
        power = _small_power(prob, gamma)
    else:
        # log sigmoid(z) = min(z, 0) - log(1 + exp(-|z|)): an exponential in place of a
        # power, which is the slowest function of all.
        log = _exp_of_minus_abs(z).log1p_()
        power = z.clamp(max=0.0).sub_(log).mul_(gamma * _LOG2_E).exp2_()
        loss = log.add_(z.clamp(min=0.0))
        prob = z.sigmoid_()
    rest = 1.0 - prob
    loss *= power
    # d/dz = power * prob + gamma * rest * loss
    z.mul_(power).addcmul_(rest, loss, value=gamma)
    return loss


def mixed_terms_(
    z: Tensor, gamma: float, other_gamma: float, is_other: Tensor, detach_power: bool
) -> Tensor:
    """`negative_terms_` with two exponents; `z` becomes the derivative.

    Args:
        z: logits; infinite ones have finite derivatives.
        gamma: exponent.
        other_gamma: exponent where `is_other` is 1.
        is_other: 0 or 1, in the shape and type of `z`.
        detach_power: keep the power of the probability out of the derivative.
    """
    largest = torch.finfo(z.dtype).max
    loss = softplus(z)
    gammas = torch.lerp(z.new_tensor(gamma), z.new_tensor(other_gamma), is_other)
    if {gamma, other_gamma} <= _SMALL_POWERS:
        prob = z.sigmoid_()
        power = _small_power(prob, gamma)
        if gamma != other_gamma:
            power = torch.lerp(power, _small_power(prob, other_gamma), is_other)
    else:
        # Kept finite, so that an exponent of 0 gives 1 at minus infinity.
        power = F.logsigmoid(z).clamp_(min=-largest).mul_(gammas).exp_()
        prob = z.sigmoid_()
    loss *= power
    rest = None if detach_power else 1.0 - prob
    z.mul_(power)
    if rest is not None:
        # At infinity the rest is 0 and the loss infinite: no slope.
        z.addcmul_(rest.mul_(gammas), loss.clamp(max=largest))
    return loss


def negative_sums_(z: Tensor, gamma: float) -> Tensor:
    """Sums of `negative_terms_` over rows, (N,); `z` (N, C) becomes the derivative."""
    if gamma == 0.0:
        sums = softplus_sums(z)
        z.sigmoid_()
        return sums
    return negative_terms_(z, gamma).sum(dim=1)


def _small_power(prob: Tensor, gamma: float) -> Tensor:
    if gamma == 0.0:
        return torch.ones_like(prob)
    return prob if gamma == 1.0 else prob * prob


def _exp_of_minus_abs(z: Tensor) -> Tensor:
    # exp2 takes half the time of exp.
    return z.abs().mul_(-_LOG2_E).exp2_()
