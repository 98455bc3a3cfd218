"""Importance weights of prime sample attention (ISR-P and ISR-N).

Cao et al., "Prime Sample Attention in Object Detection", CVPR 2020,
https://arxiv.org/abs/1904.04821, section 4.1; the equations are in `core/pisa.py`.

Shapes: N RoIs or anchors of the batch, P positives, C foreground classes.
Deviations: the paper's ISR-N also *chooses* the negatives of highest rank. Here any
sampler chooses and `ScoreHierarchicalWeight` weighs what it chose; with a large `num`
of RoIs that comes to the same, because the weight falls with the rank.
"""

import torch
from torch import Tensor

from mmdet_imbalance.core.pisa import (
    COUNTS,
    iou_hierarchical_weights,
    preserve_total,
    score_hierarchical_weights,
)
from mmdet_imbalance.core.ranks import rank_within
from mmdet_imbalance.models.regions import Regions
from mmdet_imbalance.registry import TASK_UTILS


@TASK_UTILS.register_module()
class IoUHierarchicalWeight:
    """ISR-P: positives with well placed predictions weigh more.

    Args:
        gamma: exponent; the paper uses 2.
        bias: importance at the last rank; the paper uses 0.
        count: n is the size of the largest class ('max', authors' code) or of the own
            one ('class').
    """

    def __init__(
        self, gamma: float = 2.0, bias: float = 0.0, count: str = 'max'
    ) -> None:
        if count not in COUNTS:
            raise ValueError(f'`count` must be one of {COUNTS}, got {count!r}')
        _check_mapping(gamma, bias)
        self.gamma = gamma
        self.bias = bias
        self.count = count

    @torch.no_grad()
    def __call__(self, regions: Regions, row_loss: Tensor) -> Tensor:
        """Weight of each row, shape (N,); 1 for rows that are not positive.

        Args:
            regions: RoIs or anchors of the batch.
            row_loss: unreduced classification loss, shape (N,); its sum over the
                positives is preserved.
        """
        weights = iou_hierarchical_weights(
            regions.pos_iou,
            regions.pos_labels,
            regions.gt_ids,
            self.gamma,
            self.bias,
            self.count,
        ).to(row_loss.dtype)
        weights = preserve_total(weights, row_loss[regions.pos_inds])
        return torch.ones_like(row_loss).index_copy(0, regions.pos_inds, weights)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(gamma={self.gamma}, bias={self.bias}, '
            f'count={self.count!r})'
        )


@TASK_UTILS.register_module()
class ScoreHierarchicalWeight:
    """ISR-N: confidently wrong negatives, first of their cluster, weigh more.

    Args:
        gamma: exponent; the paper uses 0.5.
        bias: importance at the last rank.
        score_thr: negatives of a best score up to this are not ranked.
        iou_thr: IoU above which predictions form a cluster.
        max_per_img: candidates of an image; those of lower score are not ranked. All
            pairs of candidates are compared, and a dense head has 200,000 negatives.
    """

    def __init__(
        self,
        gamma: float = 0.5,
        bias: float = 0.0,
        score_thr: float = 0.05,
        iou_thr: float = 0.5,
        max_per_img: int = 1000,
    ) -> None:
        _check_mapping(gamma, bias)
        if max_per_img < 1:
            raise ValueError(f'`max_per_img` must be at least 1, got {max_per_img}')
        self.gamma = gamma
        self.bias = bias
        self.score_thr = score_thr
        self.iou_thr = iou_thr
        self.max_per_img = max_per_img

    @torch.no_grad()
    def __call__(self, regions: Regions, row_loss: Tensor) -> Tensor:
        """Weight of each row, shape (N,); 1 for rows that are not negative.

        Args:
            regions: RoIs or anchors of the batch.
            row_loss: unreduced classification loss, shape (N,); its sum over the
                negatives is preserved.
        """
        is_negative = (regions.labels == regions.num_classes) & (
            regions.label_weights > 0
        )
        rows = is_negative.nonzero().squeeze(1)
        scores, classes = regions.scores(rows).max(dim=1)
        image_ids = regions.image_ids[rows]
        ranked = self._best_of_image(scores, image_ids)
        boxes = scores.new_zeros(len(rows), 4)
        boxes[ranked] = regions.boxes(rows[ranked], classes[ranked]).to(boxes.dtype)
        weights = score_hierarchical_weights(
            # The others fall below any threshold.
            scores.masked_fill(~ranked, -torch.inf),
            boxes,
            image_ids,
            self.gamma,
            self.bias,
            self.score_thr,
            self.iou_thr,
        ).to(row_loss.dtype)
        weights = preserve_total(weights, row_loss[rows])
        return torch.ones_like(row_loss).index_copy(0, rows, weights)

    def _best_of_image(self, scores: Tensor, image_ids: Tensor) -> Tensor:
        return (scores > self.score_thr) & (
            rank_within(-scores, image_ids) < self.max_per_img
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(gamma={self.gamma}, bias={self.bias}, '
            f'score_thr={self.score_thr}, iou_thr={self.iou_thr}, '
            f'max_per_img={self.max_per_img})'
        )


def _check_mapping(gamma: float, bias: float) -> None:
    if gamma < 0:
        raise ValueError(f'`gamma` must not be negative, got {gamma}')
    if not 0 <= bias <= 1:
        raise ValueError(f'`bias` must be in [0, 1], got {bias}')
