"""What sigmoid losses on label sets share: the dense target and the scores.

Shapes: N RoIs or anchors, P positives among them, C foreground classes (background is
index C).
Deviations: none, this is plumbing.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.label_sets import label_pairs
from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.multi_label import MultiLabelLoss


class SigmoidLabelSetLoss(MultiLabelLoss):
    """Base of losses with a binary term for each class of a row."""

    use_sigmoid = True

    def multi_hot(
        self, target: Target, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        """Dense target, and which terms count.

        Labels and `MultiLabelTarget` are expanded without waiting for the device.

        Args:
            target: any target of `MultiLabelLoss`.
            dtype: of the dense target.

        Returns:
            1 at the labels of a row and their ancestors, 0 elsewhere, shape (N, C);
            and False at the descendants of a row's most specific labels, which are
            neither positive nor negative, bool (N, C), or None where there are none.
        """
        labels, pos_inds, sets = self.split_target(target)
        if sets is None:
            return self._of_labels(labels, dtype)
        if pos_inds is None:
            return self._of_dense(sets, dtype)
        dense = torch.zeros(
            (len(labels), self.num_classes), dtype=dtype, device=labels.device
        )
        if self.ancestors is None:
            return dense.index_copy_(0, pos_inds, sets.to(dtype)), None
        sets, ignored = _closed(sets, self.ancestors)
        terms = torch.ones_like(dense, dtype=torch.bool)
        return (
            dense.index_copy_(0, pos_inds, sets.to(dtype)),
            terms.index_copy_(0, pos_inds, ~ignored),
        )

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities, and a background column of 0, shape (N, C + 1)."""
        probs = logits.sigmoid()
        return torch.cat([probs, probs.new_zeros(len(probs), 1)], dim=1)

    def _of_labels(
        self, labels: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        if self.ancestors is None:
            classes = torch.arange(self.num_classes, device=labels.device)
            return (labels.unsqueeze(1) == classes).to(dtype), None
        # One more row in the tables, for the background.
        none = self.ancestors.new_zeros(1, self.num_classes)
        positive = torch.cat([self.ancestors, none]).to(dtype)
        ignored = torch.cat([self.ancestors.t() & ~self.ancestors, none])
        return positive.index_select(0, labels), ~ignored.index_select(0, labels)

    def _of_dense(
        self, sets: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        if self.ancestors is None:
            return sets.to(dtype), None
        pairs = label_pairs(None, self.num_classes, None, sets, self.ancestors)
        dense = torch.zeros(sets.shape, dtype=dtype, device=sets.device)
        terms = torch.ones_like(sets)
        return (
            dense.index_copy_(0, pairs.pos_rows, pairs.label_sets.to(dtype)),
            terms.index_copy_(0, pairs.pos_rows, ~pairs.ignored),
        )


def _closed(sets: Tensor, ancestors: Tensor) -> tuple[Tensor, Tensor]:
    """Label sets (P, C) with all ancestors; the descendants of the most specific."""
    above = ancestors.float().fill_diagonal_(0)
    strict = sets.float() @ above > 0
    sets = sets | strict
    most_specific = sets & ~(sets.float() @ above > 0)
    below = most_specific.float() @ above.t() > 0
    return sets, below & ~sets
