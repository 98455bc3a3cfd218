"""Federated loss: a minibatch, or an image, judges a sample of the classes.

The baseline of LVIS practice: Zhou et al., "Probabilistic two-stage detection", 2021,
https://arxiv.org/abs/2103.07461, section 5.3: binary cross-entropy on the classes that
the minibatch shows, and on others drawn by the square root of their frequency until
there are `num_sampled_classes`.

Shapes: N RoIs or anchors, B images, C foreground classes (background is index C).
Deviations: the ancestors of a label are positives, its descendants are left out.
Where the data say what an image was searched for, classes verified absent are drawn
before the un-annotated, and a class that an image lists as not exhaustive is left out
there.  `scope='image'` draws for each image, the paper for a minibatch.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.multi_label_focal import focal_terms
from mmdet_imbalance.core.partial_labels import (
    NEGATIVE,
    POSITIVE,
    UNANNOTATED,
    PartialTarget,
    open_questions,
)
from mmdet_imbalance.models.losses.base import Target
from mmdet_imbalance.models.losses.class_aware_selective import PartialTargetLoss
from mmdet_imbalance.registry import MODELS

#: Lifts the key of a verified class above that of any un-annotated one.
VERIFIED_FIRST = 1000.0


@MODELS.register_module()
class FederatedLoss(PartialTargetLoss):
    """Sigmoid cross-entropy on the classes shown and a sample of the others.

    Draws from the default generator of the logits' device, as dropout does, so that the
    host's seed rules it and ranks differ.

    Args:
        num_classes: number C of foreground classes.
        num_sampled_classes: classes judged in a minibatch (or image); more if it shows
            more.  50 is detectron2's default.
        freq_exponent: the other classes are drawn by their image count to this power;
            0.5 is detectron2's default.
        scope: 'batch' draws once a minibatch, as the paper; 'image' for each image,
            which needs `ImbalanceRoIHead` or `ImbalanceRetinaHead`.
        unannotated: what un-annotated entries of a judged class count as: 'negative',
            as in the paper, or 'ignore'.
        **kwargs: arguments of `MultiLabelLoss`.
    """

    target_kind = 'partial'
    #: The heads of the package hand over a `PartialTarget`.
    wants_image_ids = True

    def __init__(
        self,
        num_classes: int,
        num_sampled_classes: int = 50,
        freq_exponent: float = 0.5,
        scope: str = 'batch',
        unannotated: str = 'negative',
        **kwargs,
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        if num_sampled_classes < 1:
            raise ValueError(
                f'`num_sampled_classes` must be at least 1, got {num_sampled_classes}'
            )
        if not freq_exponent >= 0:
            raise ValueError(f'`freq_exponent` must be at least 0, got {freq_exponent}')
        if scope not in ('batch', 'image'):
            raise ValueError(f"`scope` must be 'batch' or 'image', got {scope!r}")
        if unannotated not in ('negative', 'ignore'):
            raise ValueError(
                f"`unannotated` must be 'negative' or 'ignore', got {unannotated!r}"
            )
        self.num_sampled_classes = num_sampled_classes
        self.freq_exponent = freq_exponent
        self.scope = scope
        self.unannotated = unannotated
        if freq_exponent == 0:
            self.register_buffer('img_count', torch.ones(num_classes), persistent=False)
        else:
            self.declare_stat('img_count', (num_classes,))
        self.init_stats()

    def stats_values(self, stats) -> dict:
        """Image counts, beside what the base derives."""
        values = super().stats_values(stats)
        if 'img_count' in self._stat_names:
            # An inner class may be annotated by its descendants alone.
            expanded = self.uses_hierarchy(stats)
            count = stats.expanded_img_count if expanded else None
            values['img_count'] = stats.img_count if count is None else count
        return values

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Cross-entropy summed over the judged classes of each row, shape (N,)."""
        return self.valid_row_loss(logits, target, None)

    def valid_row_loss(
        self, logits: Tensor, target: Target, valid: Tensor | None
    ) -> Tensor:
        """`row_loss`, in which ignored rows have no say in what is judged."""
        values = self.partial_target(target)
        if isinstance(target, PartialTarget):
            image_ids, num_images = target.image_ids, target.num_images
        elif self.scope == 'image':
            raise ValueError(
                "scope='image' needs the image of each row: use `ImbalanceRoIHead` or "
                "`ImbalanceRetinaHead`, or scope='batch'"
            )
        else:
            image_ids, num_images = values.new_zeros(len(values), dtype=torch.long), 1
        judged = self.judged_entries(values, image_ids, num_images, valid)
        unjudged, positive = judged.logical_not_(), values == POSITIVE
        return focal_terms(
            logits, None, None, positive, unjudged, None, None, gamma=0.0, alpha=None
        )

    @torch.no_grad()
    def judged_entries(
        self,
        target: Tensor,
        image_ids: Tensor,
        num_images: int,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Entries that count in this minibatch, bool (N, C).

        Args:
            target: int8 (N, C) of 1, 0 and -1 (un-annotated).
            image_ids: image of each row, shape (N,), values in [0, B).
            num_images: B.
            valid: rows that have a say in what is judged, bool (N,); None is all.
        """
        shown = _any_by_image(target, POSITIVE, image_ids, num_images, valid)
        verified = _any_by_image(target, NEGATIVE, image_ids, num_images, valid)
        if self.scope == 'image':
            judged = self.judged_classes(shown, verified)
        else:
            judged = self.judged_classes(
                shown.any(dim=0, keepdim=True), verified.any(dim=0, keepdim=True)
            ).expand_as(shown)
        entries = judged[image_ids]
        if self.unannotated == 'ignore':
            entries &= target != UNANNOTATED
        else:
            # A class that the image shows and yet leaves open is not exhaustive there.
            is_open = shown[image_ids]
            if self.ancestors is not None:
                is_open |= open_questions(target, self.ancestors)
            entries &= is_open.logical_not_().logical_or_(target != UNANNOTATED)
        return entries.logical_or_(target == POSITIVE)

    def judged_classes(self, shown: Tensor, verified: Tensor) -> Tensor:
        """Classes that each minibatch or image judges, bool (G, C).

        Args:
            shown: classes with a positive, bool (G, C).
            verified: classes that are negative somewhere, bool (G, C).
        """
        # Gumbel keys: the k largest are a draw without replacement by the weights.
        uniform = torch.rand_like(self.img_count.expand(shown.shape)).clamp(min=1e-12)
        keys = self.freq_exponent * self.img_count.log() - (-uniform.log()).log()
        keys = keys + VERIFIED_FIRST * verified
        keys = keys.masked_fill(shown, torch.inf)
        kept = keys.topk(min(self.num_sampled_classes, self.num_classes)).indices
        sampled = torch.zeros_like(shown).scatter(1, kept, True)
        # A class without training images is never drawn: its key is -inf.
        return shown | (sampled & (keys > -torch.inf))

    def extra_repr(self) -> str:
        """Arguments in `repr`."""
        return (
            f'{super().extra_repr()}, num_sampled_classes={self.num_sampled_classes}, '
            f'freq_exponent={self.freq_exponent}, scope={self.scope!r}, '
            f'unannotated={self.unannotated!r}'
        )


def _any_by_image(
    target: Tensor,
    value: int,
    image_ids: Tensor,
    num_images: int,
    valid: Tensor | None,
) -> Tensor:
    """Whether any valid row of an image has the value, (N, C) to bool (B, C)."""
    num_rows, num_classes = target.shape
    num = torch.zeros(num_images, num_classes, device=target.device)
    for rows in row_blocks(num_rows, num_classes, target.device):
        entries = target[rows] == value
        if valid is not None:
            entries &= valid[rows].unsqueeze(1)
        num.index_add_(0, image_ids[rows], entries.to(num.dtype))
    return num > 0
