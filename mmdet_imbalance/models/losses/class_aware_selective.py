"""Class-aware selective loss for partly annotated detection data.

Ben-Baruch et al., "Multi-label Classification with Partial Annotations using
Class-aware Selective Loss", CVPR 2022, https://arxiv.org/abs/2110.10955; the equations
are in `core/class_aware_selective.py`, the targets in `core/partial_labels.py`.

Shapes: N RoIs or anchors, C foreground classes (background is index C).

Deviations: the paper classifies images.  Here a row is a RoI, the top K are taken among
the classes of a RoI, and the prior of a class is the mean probability over foreground
RoIs: over all RoIs the background would drown it.
"""

from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmdet_imbalance.core.asymmetric_rows import partial_asymmetric_rows
from mmdet_imbalance.core.class_aware_selective import (
    class_aware_ignore,
    partial_asymmetric_loss,
)
from mmdet_imbalance.core.label_prior import LabelPrior
from mmdet_imbalance.core.label_sets import label_pairs
from mmdet_imbalance.core.partial_labels import UNANNOTATED, PartialTarget
from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.multi_label import MultiLabelLoss
from mmdet_imbalance.registry import MODELS

MODES = ('ignore', 'negative', 'selective', 'ignore_normalized')


class PartialTargetLoss(MultiLabelLoss):
    """Base of sigmoid losses whose target knows un-annotated classes.

    The target is int8 (N, C) of 1 (positive), 0 (negative) and -1 (un-annotated), or
    any target of `MultiLabelLoss`.  The latter is taken as fully annotated: only the
    descendants of a row's most specific labels are un-annotated then.
    """

    target_kind = 'partial'
    use_sigmoid = True

    def partial_target(self, target: Target) -> Tensor:
        """Partial target of any form of target, int8 (N, C)."""
        if isinstance(target, PartialTarget):
            target = target.values
        is_dense = isinstance(target, Tensor) and target.ndim == 2
        if is_dense and target.dtype == torch.int8:
            if target.size(1) != self.num_classes:
                raise ValueError(
                    f'a partial target of {self.num_classes} classes must have shape '
                    f'(N, {self.num_classes}), got {tuple(target.shape)}'
                )
            return target
        labels, pos_inds, sets = self.split_target(target)
        num_rows = len(sets) if labels is None else len(labels)
        pairs = label_pairs(labels, self.num_classes, pos_inds, sets, self.ancestors)
        dense = torch.zeros(
            (num_rows, self.num_classes), dtype=torch.int8, device=pairs.rows.device
        )
        if pairs.ignored is not None:
            dense.index_copy_(0, pairs.pos_rows, -pairs.ignored.to(torch.int8))
        dense[pairs.rows, pairs.classes] = 1
        return dense

    def row_class_weight(self, target: Target) -> Tensor:
        """Mean class weight of a row's positives; un-annotated classes have no say."""
        if isinstance(target, PartialTarget):
            target = target.values
        if isinstance(target, Tensor) and target.ndim == 2:
            target = target.clamp(min=0)
        return super().row_class_weight(target)

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities, and a background column of 0, shape (N, C + 1)."""
        probs = logits.sigmoid()
        return torch.cat([probs, probs.new_zeros(len(probs), 1)], dim=1)


@MODELS.register_module()
class ClassAwareSelectiveLoss(PartialTargetLoss):
    """Asymmetric focal loss that leaves out likely positives among the un-annotated.

    With a fully annotated target it is the asymmetric loss (ASL).

    Args:
        num_classes: number C of foreground classes.
        mode: what un-annotated classes count as. 'ignore': nothing. 'negative': a
            negative. 'selective': a negative, but for the likeliest and those with a
            high prior. 'ignore_normalized': nothing, and the loss of a row is divided
            by the number of its annotated classes.
        gamma_pos: focusing exponent of the positives; 0 in the paper.
        gamma_neg: of the negatives; the authors' code has 1, their commands 1 and 3.
        gamma_unann: of the un-annotated; the authors' code has 2, their commands 4.
        top_k: likeliest un-annotated classes of a row that are ignored; the paper
            uses 5 on images.
        prior: label prior of each class, a list of C numbers or a file that
            `LabelPriorHook` or `tools/label_prior.py` wrote; None has no prior.  For
            mode 'selective' only; the log says how many and which classes it ignores.
        prior_thr: classes with a larger prior are ignored where un-annotated.  The
            authors' code has 0.05, their commands 0.5.
        scope: 'sample' or 'batch', see `class_aware_ignore`.
        detach_focal: keep the gradient out of the focal factor, as the authors' code.
        clip: probability margin of negatives and un-annotated; ASL uses 0.05.
        track_prior: accumulate the mean probability over foreground rows in training;
            `LabelPriorHook` switches it on.
        **kwargs: arguments of `MultiLabelLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        mode: str = 'selective',
        gamma_pos: float = 0.0,
        gamma_neg: float = 1.0,
        gamma_unann: float = 2.0,
        top_k: int = 5,
        prior=None,
        prior_thr: float = 0.05,
        scope: str = 'sample',
        detach_focal: bool = False,
        clip: float = 0.0,
        track_prior: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        if mode not in MODES:
            raise ValueError(f'`mode` must be one of {MODES}, got {mode!r}')
        if scope not in ('sample', 'batch'):
            raise ValueError(f"`scope` must be 'sample' or 'batch', got {scope!r}")
        if top_k < 0:
            raise ValueError(f'`top_k` must be at least 0, got {top_k}')
        self.mode = mode
        self.gammas = (float(gamma_pos), float(gamma_neg), float(gamma_unann))
        if not all(gamma >= 0 for gamma in self.gammas):
            raise ValueError(
                f'focusing exponents must be at least 0, got {self.gammas}'
            )
        self.top_k = top_k
        self.prior_thr = prior_thr
        self.scope = scope
        if not 0 <= clip < 1:
            raise ValueError(f'`clip` must be in [0, 1), got {clip}')
        self.detach_focal = detach_focal
        self.clip = clip
        self.track_prior = track_prior
        self._prior_names: tuple[str, ...] | None = None
        self.register_buffer('prior', self._read_prior(prior), persistent=False)
        # Sums over this rank's foreground rows; `LabelPriorHook` adds up the ranks.
        self.register_buffer('prior_sum', torch.zeros(num_classes), persistent=False)
        self.register_buffer('prior_rows', torch.zeros(()), persistent=False)
        self.init_stats()

    def _read_prior(self, prior) -> Tensor | None:
        """Prior as a tensor, checked; says what it ignores."""
        if prior is None:
            return None
        if self.mode != 'selective':
            raise ValueError(
                f'`prior` has no effect with mode={self.mode!r}: leave it out, or '
                "write mode='selective'"
            )
        names = [f'class {i}' for i in range(self.num_classes)]
        if isinstance(prior, (str, Path)):
            file = LabelPrior.load(prior)
            names, prior = file.class_names, file.prior
            self._prior_names = file.class_names
        values = torch.as_tensor(prior, dtype=torch.float32)
        if values.shape != (self.num_classes,):
            raise ValueError(
                f'`prior` must have {self.num_classes} values, got shape '
                f'{tuple(values.shape)}: it belongs to another dataset'
            )
        found = LabelPrior(names, values.double().numpy(), 0)
        print_log(
            f'label prior: {found.ignored_line(self.prior_thr)}', logger='current'
        )
        return values

    def _checked(self, stats):
        stats = super()._checked(stats)
        names = getattr(self, '_prior_names', None)
        if names is not None and names != tuple(stats.class_names):
            raise ValueError(
                'the classes of `prior` are not those of the class statistics, or '
                f'stand in another order: {names[:3]}... and '
                f'{tuple(stats.class_names)[:3]}...'
            )
        return stats

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Loss summed over the classes of each row, shape (N,)."""
        return self.valid_row_loss(logits, target, None)

    def valid_row_loss(
        self, logits: Tensor, target: Target, valid: Tensor | None
    ) -> Tensor:
        """`row_loss`, in which ignored rows take nobody's place among the top K."""
        target = self.partial_target(target)
        if valid is not None:
            target = target.masked_fill(~valid.unsqueeze(1), 0)
        if self.track_prior and self.training:
            self.update_prior(logits, target)
        ignored = self.ignored_entries(logits, target, valid)
        if self.clip:
            weight = None if ignored is None else (~ignored).to(logits.dtype)
            loss = partial_asymmetric_loss(
                logits, target, *self.gammas, weight, self.detach_focal, self.clip
            ).sum(dim=1)
        else:
            loss = partial_asymmetric_rows(
                logits, target, *self.gammas, ignored, self.detach_focal
            )
        if self.mode == 'ignore_normalized':
            loss = loss / (target != -1).sum(dim=1).clamp(min=1)
        return loss

    def ignored_entries(
        self, logits: Tensor, target: Tensor, valid: Tensor | None = None
    ) -> Tensor | None:
        """Un-annotated entries that count as nothing, bool (N, C); None is none."""
        if self.mode == 'negative':
            return None
        if self.mode != 'selective':
            return target == UNANNOTATED
        return class_aware_ignore(
            logits,
            target,
            self.top_k,
            self.prior,
            None if self.prior is None else self.prior_thr,
            self.scope,
            None if valid is None else valid.sum(),
        )

    @torch.no_grad()
    def update_prior(self, logits: Tensor, target: Tensor) -> None:
        """Add the probabilities of the foreground rows to the running sums."""
        foreground = (target == 1).any(dim=1).to(logits.dtype)
        self.prior_sum += (foreground @ logits.sigmoid()).to(self.prior_sum)
        self.prior_rows += foreground.sum().to(self.prior_rows)

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return f'{super().extra_repr()}, mode={self.mode!r}, gammas={self.gammas}'
