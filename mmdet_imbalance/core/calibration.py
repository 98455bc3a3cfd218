"""Test-time calibration of a long-tailed classifier: no retraining.

- Logit adjustment: Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021,
  https://arxiv.org/abs/2007.07314, equation 9: f_y - tau * log(pi_y).
- NorCal: Pan et al., "On Model Calibration for Long-Tailed Object Detection and
  Instance Segmentation", NeurIPS 2021, https://arxiv.org/abs/2107.02170, equations 4
  and 5: the exponentials of the classes are divided by N_y^gamma before they are
  normalised, that of the background is not.
- tau-normalisation: Kang et al., "Decoupling Representation and Classifier", ICLR 2020,
  https://arxiv.org/abs/1910.09217, equation 5: w_y / |w_y|^tau.
- Fractal calibration (FRACAL): Alexandridis et al., "Fractal Calibration for
  Long-tailed Object Detection", CVPR 2025, https://arxiv.org/abs/2410.11774: softmax
  detectors subtract log10(C n_y / sum n) from the logit, divide the probability by
  Phi_y^lambda (`core/fractal_dimension.py`) and normalise again; sigmoid detectors
  multiply sigmoid(z) by sigmoid(z - log10(C n_y / sum n) - log10(C Phi_y^lambda / sum
  Phi^lambda)). The authors' configs for LVIS: base 10, lambda 2, image counts.

All come before the activation, so that they work with any softmax or sigmoid and
with the activations of this package. Shapes: N rows, C foreground classes, columns from
C on (background, objectness) stay as they are.

Deviations: logit adjustment was made for classifiers without background; here the prior
is relative to the most frequent class, whose logit stays, so that rare classes gain on
the background, too. tau-normalisation keeps the geometric mean of the norms, so that
the foreground as a whole keeps its scale against the background. Fractal calibration
has one strength for both of its parts (the paper: a base of the logarithm and lambda),
and takes n_y / sum n from the text where the authors' code has images with y / images.
A class without training objects counts as one object.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.precision import at_least_float32

METHODS = ('logit_adjustment', 'norcal', 'tau_normalization', 'fractal')
#: Lambda of the authors' LVIS configs.
SPACE_EXPONENT = 2.0


def logit_adjustment(logits: Tensor, counts: Tensor, strength: float) -> Tensor:
    """Subtract `strength` times the log prior of each class.

    Args:
        logits: shape (N, C) or wider.
        counts: training objects (or images) of each class, shape (C,).
        strength: tau; 1 is the paper's formula, 0 changes nothing.

    Returns:
        Shape of `logits`, float32 (float64 for float64 logits).

    Raises:
        ValueError: `counts` does not fit.
    """
    logits, counts = _counted(logits, counts)
    return _shift(logits, -strength * (counts / counts.max()).log())


def norcal(logits: Tensor, counts: Tensor, strength: float) -> Tensor:
    """Divide the exponential of each class by its count to the power `strength`.

    Args:
        logits: shape (N, C) or wider.
        counts: training images (or objects) of each class, shape (C,).
        strength: gamma, to be chosen on held-out images; 0 changes nothing.

    Returns:
        Shape of `logits`, float32 (float64 for float64 logits).

    Raises:
        ValueError: `counts` does not fit.
    """
    logits, counts = _counted(logits, counts)
    return _shift(logits, -strength * counts.log())


def tau_normalization(
    logits: Tensor, weight: Tensor, bias: Tensor | None, strength: float
) -> Tensor:
    """Logits of a linear classifier whose weights have more equal norms.

    Args:
        logits: of the classifier as it is, shape (N, C') with C' rows of `weight`.
        weight: shape (C', D); all rows are classes.
        bias: shape (C',), or None; it is not scaled.
        strength: tau, usually in [0, 1]; 0 changes nothing, 1 makes all norms equal.

    Returns:
        Shape (N, C'), float32 (float64 for float64 logits).

    Raises:
        ValueError: `weight` has no row for each column of `logits`.
    """
    if len(weight) != logits.size(-1):
        raise ValueError(
            f'`weight` must have a row for each of the {logits.size(-1)} columns of '
            f'`logits`, got {tuple(weight.shape)}'
        )
    logits = at_least_float32(logits)
    norms = weight.detach().flatten(1).to(logits.dtype).norm(dim=1)
    scale = tau_scale(norms, strength)
    if bias is None:
        return logits * scale
    bias = bias.detach().to(logits.dtype)
    return (logits - bias) * scale + bias


def tau_scale(norms: Tensor, tau: float) -> Tensor:
    """Factor of each class's weights, (m / |w_c|)^tau, with m the geometric mean.

    Args:
        norms: of the weights of each class, float, shape (C,). A class without weights
            counts in no mean and is left as it is.
        tau: 0 changes nothing, 1 makes all norms equal.

    Returns:
        Shape (C,).
    """
    has_weights = norms > 0
    log_norms = norms.where(has_weights, 1.0).log()
    mean = log_norms.sum() / has_weights.sum().clamp(min=1)
    return ((mean - log_norms) * tau).exp().where(has_weights, 1.0)


def fractal_calibration(
    logits: Tensor,
    counts: Tensor,
    dimension: Tensor,
    strength: float,
    space_exponent: float = SPACE_EXPONENT,
) -> Tensor:
    """Calibrate by frequency and by how evenly a class spreads over the image.

    Args:
        logits: shape (N, C), taken for those of a sigmoid, or wider, of a softmax.
        counts: training images (or objects) of each class, shape (C,).
        dimension: fractal dimension of each class, above 0, shape (C,).
        strength: factor of both parts; 1 is the paper's formula with base 10, 0 changes
            nothing.
        space_exponent: lambda; 0 leaves the frequency alone.

    Returns:
        Shape of `logits`, float32 (float64 for float64 logits).

    Raises:
        ValueError: `counts` or `dimension` does not fit.
    """
    logits, counts = _counted(logits, counts)
    if dimension.shape != counts.shape or not (dimension > 0).all():
        raise ValueError(
            f'`dimension` must have the shape {tuple(counts.shape)} of `counts` and '
            f'values above 0, got {tuple(dimension.shape)}'
        )
    if not strength:
        return logits
    num_classes = counts.numel()
    by_frequency = -(num_classes * counts / counts.sum()).log10()
    space = dimension.to(logits) ** space_exponent
    if logits.size(-1) > num_classes:
        # To divide a softmax and to normalise it again is to shift its logits.
        return _shift(logits, strength * (by_frequency - space.log()))
    by_space = -(num_classes * space / space.sum()).log10()
    shifted = logits + strength * (by_frequency + by_space)
    # The logit of the product of both sigmoids.
    parts = torch.stack([-logits, -shifted, -logits - shifted])
    return -torch.logsumexp(parts, dim=0)


def _counted(logits: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and counts, no lower than 1, in the precision of the formulas."""
    if counts.ndim != 1 or not 0 < counts.numel() <= logits.size(-1):
        raise ValueError(
            f'`counts` must have shape (C,) with C at most {logits.size(-1)}, the '
            f'columns of `logits`, got {tuple(counts.shape)}'
        )
    logits = at_least_float32(logits)
    return logits, counts.to(logits).clamp(min=1)


def _shift(logits: Tensor, shift: Tensor) -> Tensor:
    num_classes = shift.numel()
    rest = logits[..., num_classes:]
    return torch.cat([logits[..., :num_classes] + shift, rest], dim=-1)
