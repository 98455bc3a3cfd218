"""Seesaw loss for stock box heads, with counts that all processes share.

Wang et al., CVPR 2021, https://arxiv.org/abs/2008.10032; the equations are in
`core/seesaw.py`.

Shapes: N RoIs, C foreground classes (background is index C).

Differs from the host's `SeesawLoss`: ignored rows are not counted, counts are summed
over all processes, no `.item()` for each class; the two terms are one number, so that
importance weights apply to both; `class_weight` works.
"""

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmdet_imbalance.core.seesaw import seesaw_loss
from mmdet_imbalance.models.losses.base import (
    ClassificationLoss,
    Target,
    primary_labels,
)
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class SeesawLoss(ClassificationLoss):
    """Softmax that eases the pressure of frequent classes on rare ones.

    It has C + 2 channels, the last two for "an object" and "none"; box heads only.

    Args:
        num_classes: number C of foreground classes.
        p: strength of the mitigation by counts; the paper uses 0.8.
        q: strength of the compensation by mistakes; the paper uses 2.
        eps: least own score in the compensation.
        **kwargs: arguments of `ClassificationLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        p: float = 0.8,
        q: float = 2.0,
        eps: float = 1e-2,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        if not (p >= 0 and q >= 0 and 0 < eps <= 1):
            raise ValueError(
                '`p` and `q` must not be negative and `eps` in (0, 1], got '
                f'p={p}, q={q}, eps={eps}'
            )
        self.p = p
        self.q = q
        self.eps = eps
        self.register_buffer('seen_count', torch.zeros(num_classes))

    @property
    def cls_channels(self) -> int:
        """A column per class, then "an object" and "no object"."""
        return self.num_classes + 2

    def valid_row_loss(
        self, logits: Tensor, target: Target, valid: Tensor | None
    ) -> Tensor:
        """Class and objectness terms of each row, shape (N,); updates the counts."""
        labels = primary_labels(target, self.num_classes)
        if self.training:
            self.update_counts(labels, valid)
        return seesaw_loss(logits, labels, self.seen_count, self.p, self.q, self.eps)

    @torch.no_grad()
    def update_counts(self, labels: Tensor, valid: Tensor | None) -> None:
        """Count the labels of a step, (N,), over all processes."""
        one = torch.ones_like(labels, dtype=self.seen_count.dtype)
        if valid is not None:
            one = one * valid
        count = self.seen_count.new_zeros(self.num_classes + 1)
        count = count.index_add(0, labels, one)[:-1]
        all_reduce(count)
        self.seen_count += count

    def scores(self, logits: Tensor) -> Tensor:
        """Class softmax times that of "an object", and "no object"; (N, C + 1)."""
        is_object = logits[:, -2:].softmax(dim=1)
        classes = logits[:, :-2].softmax(dim=1)
        return torch.cat([classes * is_object[:, :1], is_object[:, 1:]], dim=1)

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return f'{super().extra_repr()}, p={self.p}, q={self.q}, eps={self.eps}'
