"""GHM-C and GHM-R as losses of stock heads.

Li et al., "Gradient Harmonized Single-stage Detector", AAAI 2019,
https://arxiv.org/abs/1811.05181; the equations are in `core/ghm.py`.

Shapes: N anchors or RoIs, C foreground classes (background is index C), K bins.

Deviations:

* The moving average `S <- a S + (1 - a) R` is divided by `1 - a^t`: started at 0 it
  would otherwise weigh the first iterations 1 / (1 - a) times too much.
* Counts are averaged over ranks, so all of them see one density.
* Several labels a row; where there is a hierarchy, the descendants of a row's most
  specific labels are no terms at all.
"""

import warnings

import torch
from torch import Tensor, nn

from mmdet_imbalance.core.ghm import (
    NORMALIZERS,
    authentic_smooth_l1,
    bin_weights,
    gradient_bins,
    regression_gradient_norm,
)
from mmdet_imbalance.core.harmonized_terms import (
    BinaryTarget,
    harmonized_cross_entropy,
    turn_and_count,
)
from mmdet_imbalance.core.precision import at_least_float32
from mmdet_imbalance.core.reduction import (
    check_reduction,
    hide_ignored_rows,
    weight_reduce,
)
from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.sigmoid_label_sets import SigmoidLabelSetLoss
from mmdet_imbalance.registry import MODELS


class GradientDensity(nn.Module):
    """Weights of terms from the density of their gradient norms, over all ranks.

    State: `bin_count` and `num_updates`, global, updated in training mode only and kept
    in the checkpoint; without momentum there is none.

    Args:
        num_bins: number K of bins of equal width.
        momentum: share a of the past in the moving average, in [0, 1); 0 has no past.
        normalize_by: 'nonempty_bins' (authors' code) or 'bins' (paper).
    """

    def __init__(self, num_bins: int, momentum: float, normalize_by: str) -> None:
        super().__init__()
        if num_bins < 1:
            raise ValueError(f'`num_bins` must be at least 1, got {num_bins}')
        if not 0 <= momentum < 1:
            raise ValueError(f'`momentum` must be in [0, 1), got {momentum}')
        if normalize_by not in NORMALIZERS:
            raise ValueError(
                f'`normalize_by` must be one of {NORMALIZERS}, got {normalize_by!r}'
            )
        self.num_bins = num_bins
        self.momentum = momentum
        self.normalize_by = normalize_by
        if momentum > 0:
            self.register_buffer('bin_count', torch.zeros(num_bins))
            self.register_buffer('num_updates', torch.zeros(()))

    @torch.no_grad()
    def forward(
        self, gradient_norm: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Weights of all terms, and the number of valid terms.

        Args:
            gradient_norm: in [0, 1], any shape.
            valid: bool, broadcastable to the same shape; None: all are valid.

        Returns:
            Weights in the shape of `gradient_norm`; the number, a scalar, as the mean
            over ranks, so that averaged gradients are those of one large batch.
        """
        index, count = gradient_bins(gradient_norm, valid, self.num_bins)
        table, num_valid = self.bin_weights(count)
        return table[index], num_valid

    @torch.no_grad()
    def bin_weights(self, count: Tensor) -> tuple[Tensor, Tensor]:
        """Weight of each bin, and the number of valid terms; updates the average.

        Args:
            count: valid terms of this rank in each bin, shape (K,).

        Returns:
            Shape (K + 1,), 0 for terms of no bin; a scalar, the mean over ranks.
        """
        count = _mean_over_ranks(count)
        density = self._smoothed(count) if self.momentum > 0 else None
        return bin_weights(count, self.normalize_by, density), count.sum()

    def _smoothed(self, count: Tensor) -> Tensor:
        if self.training:
            self.bin_count.mul_(self.momentum).add_(count, alpha=1 - self.momentum)
            self.num_updates.add_(1)
        density = self.bin_count / (1 - self.momentum**self.num_updates)
        # In evaluation a bin may be filled that never was before.
        return density.to(count.dtype).where(self.bin_count > 0, count)

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return (
            f'num_bins={self.num_bins}, momentum={self.momentum}, '
            f'normalize_by={self.normalize_by!r}'
        )


@MODELS.register_module()
class GHMClassificationLoss(SigmoidLabelSetLoss):
    """Binary cross-entropy, harmonised over its gradient norm.

    The loss of a row is N times its share of the paper's loss, so the mean over rows
    is the paper's: the average over the valid *terms*. `ImbalanceRetinaHead` takes that
    mean, over all levels together. A stock dense head divides by the number of
    positives instead, hundreds of times fewer: write `ignore_avg_factor=True` there.

    Args:
        num_classes: number C of foreground classes.
        num_bins: number of bins; the paper uses 30.
        momentum: of the moving average of the counts; the paper uses 0.75.
        normalize_by: 'nonempty_bins' (authors' code) or 'bins' (paper).
        ignore_avg_factor: average over valid terms whatever the head hands over.
        **kwargs: arguments of `MultiLabelLoss`.
    """

    #: Heads of the package leave the average to the loss.
    averages_over_valid = True

    def __init__(
        self,
        num_classes: int,
        num_bins: int = 30,
        momentum: float = 0.75,
        normalize_by: str = 'nonempty_bins',
        ignore_avg_factor: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        self.density = GradientDensity(num_bins, momentum, normalize_by)
        self.ignore_avg_factor = ignore_avg_factor
        self.init_stats()

    def forward(
        self,
        cls_score: Tensor,
        target: Target,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Loss of a minibatch; arguments as in the base.

        A weight of 0 takes a row out of the density.
        """
        reduction = check_reduction(reduction_override or self.reduction)
        if reduction == 'mean' and self.ignore_avg_factor:
            avg_factor = None
        elif reduction == 'mean':
            _warn_of_positives(avg_factor, len(cls_score))
        return super().forward(cls_score, target, weight, avg_factor, reduction)

    def valid_row_loss(
        self, logits: Tensor, target: Target, valid: Tensor | None
    ) -> Tensor:
        """Harmonised loss of each row, shape (N,); updates the moving average."""
        labels, pos_inds, sets = self.split_target(target)
        form = BinaryTarget(None, labels, pos_inds, sets, self.ancestors)
        turned, count = turn_and_count(logits, form, valid, self.density.num_bins)
        table, num_valid = self.density.bin_weights(count)
        rows, _ = harmonized_cross_entropy(logits, turned, form, table)
        return rows * (len(logits) / num_valid.clamp(min=1))

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return f'{super().extra_repr()}, ignore_avg_factor={self.ignore_avg_factor}'


@MODELS.register_module()
class GHMRegressionLoss(nn.Module):
    """Authentic smooth L1, harmonised over its gradient norm, for encoded boxes.

    Without an `avg_factor` the loss is the paper's: the average over the coordinates of
    weight above 0. `ImbalanceRetinaHead` takes that.

    Args:
        mu: half-width of the quadratic part, in units of the encoded box; the paper
            uses 0.02.
        num_bins: number of bins; the authors use 10.
        momentum: of the moving average of the counts; the authors use 0.7.
        normalize_by: 'nonempty_bins' (authors' code) or 'bins' (paper).
        loss_weight: factor of the whole term; the authors use 10.
        reduction: 'none', 'mean' or 'sum'.
        ignore_avg_factor: average over valid coordinates whatever the head hands over.
    """

    #: Heads of the package leave the average to the loss.
    averages_over_valid = True

    def __init__(
        self,
        mu: float = 0.02,
        num_bins: int = 10,
        momentum: float = 0.7,
        normalize_by: str = 'nonempty_bins',
        loss_weight: float = 1.0,
        reduction: str = 'mean',
        ignore_avg_factor: bool = False,
    ) -> None:
        super().__init__()
        if not mu > 0:
            raise ValueError(f'`mu` must be positive, got {mu}')
        self.mu = mu
        self.loss_weight = loss_weight
        self.reduction = check_reduction(reduction)
        self.ignore_avg_factor = ignore_avg_factor
        self.density = GradientDensity(num_bins, momentum, normalize_by)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Loss of a minibatch.

        Args:
            pred: encoded boxes, shape (N, 4).
            target: shape (N, 4).
            weight: shape (N, 4) or (N,); coordinates of weight 0 are invisible.
            avg_factor: divisor of the summed loss in place of the number of
                coordinates of weight above 0.
            reduction_override: reduction for this call.

        Returns:
            Scalar, or (N, 4) with reduction 'none'.
        """
        reduction = check_reduction(reduction_override or self.reduction)
        if pred.shape != target.shape:
            raise ValueError(
                f'`target` must have the shape {tuple(pred.shape)} of `pred`, got '
                f'{tuple(target.shape)}'
            )
        difference = at_least_float32(pred) - target
        difference = hide_ignored_rows(difference, weight)
        valid = None if weight is None else weight != 0
        if valid is not None and valid.ndim == 1:
            valid = valid.unsqueeze(1)
        weights, num_valid = self.density(
            regression_gradient_norm(difference, self.mu), valid
        )
        loss = authentic_smooth_l1(difference, self.mu) * weights
        if reduction == 'mean' and (avg_factor is None or self.ignore_avg_factor):
            avg_factor = num_valid.clamp(min=1)
        return self.loss_weight * weight_reduce(loss, weight, reduction, avg_factor)

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return (
            f'mu={self.mu}, loss_weight={self.loss_weight}, '
            f'reduction={self.reduction!r}, '
            f'ignore_avg_factor={self.ignore_avg_factor}'
        )


def _mean_over_ranks(count: Tensor) -> Tensor:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return count
    torch.distributed.all_reduce(count)
    return count / torch.distributed.get_world_size()


def _warn_of_positives(avg_factor: float | Tensor | None, num_rows: int) -> None:
    # A tensor is not looked at: that would wait for the device.
    if torch.compiler.is_compiling() or not isinstance(avg_factor, (int, float)):
        return
    if num_rows >= 1000 and avg_factor < 0.1 * num_rows:
        warnings.warn(
            f'GHMClassificationLoss averages over {num_rows} rows, its head divides by '
            f'avg_factor={avg_factor:g}, the number of positives: far too large. Use '
            '`mmdet_imbalance.ImbalanceRetinaHead`, or write ignore_avg_factor=True.',
            stacklevel=3,
        )
