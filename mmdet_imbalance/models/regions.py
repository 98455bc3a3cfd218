"""What a head knows of the boxes it learns from, and the targets made of it.

RoIs of a two-stage head and anchors of a dense head are alike here, so importance
weights, extra losses and richer targets are written once for both.

Shapes: B images, N RoIs or anchors of the batch, P positives among them, C foreground
classes (background is index C), E numbers that encode a box.
Deviations: none, this is plumbing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor, nn

from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.core.loss_scores import loss_scores
from mmdet_imbalance.core.partial_labels import (
    PartialTarget,
    annotated_classes,
    multi_hot_rows,
    partial_targets,
)
from mmdet_imbalance.core.pisa import aligned_iou

#: Keys of the metainfo that say what an image was searched for.
IMAGE_FACTS = {'verified_pos', 'verified_neg', 'not_exhaustive'}


@dataclass
class Regions:
    """RoIs or anchors of a batch with their predictions and ground truths.

    Attributes:
        cls_score: logits, shape (N, channels of the loss).
        bbox_pred: encoded boxes, shape (N, E), or (N, C * E) unless `class_agnostic`.
        labels: shape (N,), background is C.
        label_weights: shape (N,).
        priors: RoIs or anchors in pixels, shape (N, 4).
        image_ids: image of each row, shape (N,).
        pos_inds: the positives, shape (P,).
        gt_ids: ground truth of each positive, unique over the batch, shape (P,).
        pos_gt_boxes: its box in pixels, shape (P, 4).
        multi_labels: its label set, bool (P, C); None where the data have none.
        img_metas: metainfo of each image.
        num_classes: number C of foreground classes.
        loss_cls: classification loss of the head.
        loss_bbox: regression loss of the head.
        bbox_coder: box coder of the head.
        class_agnostic: whether a row predicts one box for all classes.
    """

    cls_score: Tensor
    bbox_pred: Tensor
    labels: Tensor
    label_weights: Tensor
    priors: Tensor
    image_ids: Tensor
    pos_inds: Tensor
    gt_ids: Tensor
    pos_gt_boxes: Tensor
    multi_labels: Tensor | None
    img_metas: list[dict]
    num_classes: int
    loss_cls: nn.Module
    loss_bbox: nn.Module
    bbox_coder: object
    class_agnostic: bool = True

    def take(self, rows: Tensor) -> 'Regions':
        """Some of the rows, with the positives among them.

        Args:
            rows: int64 (R,).
        """
        position = torch.full_like(self.labels, -1)
        position[self.pos_inds] = torch.arange(
            len(self.pos_inds), device=position.device
        )
        position = position[rows]
        pos_inds = (position >= 0).nonzero().squeeze(1)
        kept = position[pos_inds]
        return replace(
            self,
            cls_score=self.cls_score[rows],
            bbox_pred=self.bbox_pred[rows],
            labels=self.labels[rows],
            label_weights=self.label_weights[rows],
            priors=self.priors[rows],
            image_ids=self.image_ids[rows],
            pos_inds=pos_inds,
            gt_ids=self.gt_ids[kept],
            pos_gt_boxes=self.pos_gt_boxes[kept],
            multi_labels=None if self.multi_labels is None else self.multi_labels[kept],
        )

    @cached_property
    def pos_labels(self) -> Tensor:
        """Primary label of each positive, shape (P,)."""
        return self.labels[self.pos_inds]

    @cached_property
    def pos_priors(self) -> Tensor:
        """Prior of each positive, shape (P, 4)."""
        return self.priors[self.pos_inds]

    def encoded(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Encoded box of some rows for the given classes, shape (R, E)."""
        if self.class_agnostic:
            return self.bbox_pred[rows]
        shape = (len(self.bbox_pred), self.num_classes, self.bbox_coder.encode_size)
        return self.bbox_pred.view(shape)[rows, labels]

    @property
    def pos_encoded(self) -> Tensor:
        """Encoded box of each positive for its label, shape (P, E)."""
        return self.encoded(self.pos_inds, self.pos_labels)

    @property
    def pos_deltas(self) -> Tensor:
        """Four numbers that encode each positive's box, shape (P, 4)."""
        if hasattr(self.bbox_coder, 'deltas'):
            return self.bbox_coder.deltas(self.pos_encoded)
        return self.pos_encoded

    @property
    def pos_delta_targets(self) -> Tensor:
        """The four numbers that would give the ground truth, shape (P, 4)."""
        coder = getattr(self.bbox_coder, 'coder', self.bbox_coder)
        return coder.encode(self.pos_priors, self.pos_gt_boxes)

    @torch.no_grad()
    def boxes(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Predicted box of some rows for the given classes, in pixels, shape (R, 4)."""
        encoded = self.encoded(rows, labels).float()
        return get_box_tensor(self.bbox_coder.decode(self.priors[rows], encoded))

    @cached_property
    def pos_iou(self) -> Tensor:
        """IoU of each positive's predicted box with its ground truth, shape (P,)."""
        boxes = self.boxes(self.pos_inds, self.pos_labels)
        return aligned_iou(boxes, self.pos_gt_boxes).clamp(0, 1)

    def scores(self, rows: Tensor) -> Tensor:
        """Foreground scores of some rows, with gradient, shape (R, C)."""
        scores = loss_scores(self.loss_cls, self.cls_score[rows], self.num_classes)
        return scores[:, : self.num_classes]

    def pos_scores(self) -> Tensor:
        """Score of each positive for its label, with gradient, shape (P,)."""
        scores = self.scores(self.pos_inds)
        return scores.gather(1, self.pos_labels.unsqueeze(1)).squeeze(1)

    @torch.no_grad()
    def score_weights(self) -> Tensor:
        """Detached best score of each positive, scaled to a mean of 1, shape (P,)."""
        if not len(self.pos_inds):
            return self.priors.new_zeros(0)
        best = self.scores(self.pos_inds).amax(dim=1)
        return best / best.mean().clamp(min=torch.finfo().eps)


def label_target(regions: Regions) -> Tensor:
    """Primary labels, shape (N,)."""
    return regions.labels


def multi_label_target(regions: Regions) -> Tensor | MultiLabelTarget:
    """Label sets of the positives; labels where the data have no label sets."""
    if regions.multi_labels is None:
        return regions.labels
    return MultiLabelTarget(regions.labels, regions.pos_inds, regions.multi_labels)


def quality_target(regions: Regions) -> tuple[Tensor | MultiLabelTarget, Tensor]:
    """Labels or label sets, and the IoU of each row's predicted box, shape (N,)."""
    quality = regions.pos_iou.new_zeros(len(regions.labels))
    quality = quality.index_copy(0, regions.pos_inds, regions.pos_iou)
    return multi_label_target(regions), quality


def partial_target(regions: Regions) -> Tensor | PartialTarget:
    """Positive, negative or un-annotated, for each row and class, int8 (N, C).

    By the image-level facts in the metainfo (`verified_pos`, `verified_neg` and
    `not_exhaustive`, lists of labels); an image that has none of these keys is taken
    as fully annotated.  A loss with `wants_image_ids` gets the image of each row too.
    """
    metas, num_classes = regions.img_metas, regions.num_classes
    device = regions.labels.device
    present, absent, incomplete = (
        multi_hot_rows([meta.get(key) or () for meta in metas], num_classes, device)
        for key in ('verified_pos', 'verified_neg', 'not_exhaustive')
    )
    # A class with a box is verified present, whoever forgot to say so.
    pos_images = regions.image_ids[regions.pos_inds]
    present[pos_images, regions.pos_labels] = True
    if regions.multi_labels is not None:
        of_positives = torch.zeros(present.shape, device=device)
        of_positives.index_add_(0, pos_images, regions.multi_labels.float())
        present |= of_positives > 0
    ancestors = getattr(regions.loss_cls, 'ancestors', None)
    if ancestors is None:
        ancestors = torch.eye(num_classes, dtype=torch.bool, device=device)
    annotated = annotated_classes(present, absent, incomplete, ancestors)
    is_complete = [not IMAGE_FACTS & set(meta) for meta in metas]
    annotated |= torch.tensor(is_complete, device=device).unsqueeze(1)
    target = partial_targets(
        regions.labels,
        regions.image_ids,
        annotated,
        absent,
        ancestors,
        None if regions.multi_labels is None else regions.pos_inds,
        regions.multi_labels,
    )
    if getattr(regions.loss_cls, 'wants_image_ids', False):
        return PartialTarget(target, regions.image_ids, len(metas))
    return target


#: Builder of the target that a loss names by its `target_kind`.
TARGET_BUILDERS: dict[str, Callable] = {
    'label': label_target,
    'multi_label': multi_label_target,
    'quality': quality_target,
    'partial': partial_target,
}


def gather_multi_labels(
    gt_instances: list, gt_inds: list[Tensor], num_classes: int
) -> Tensor | None:
    """Label sets of the positives of all images.

    Args:
        gt_instances: ground truth of each image, with `multi_labels` (G, C) or without.
        gt_inds: ground truth of each positive, by image, shape (P_i,).
        num_classes: number C of foreground classes.

    Returns:
        bool (P, C), or None where no image has label sets.

    Raises:
        ValueError: only some of the images with objects have label sets, or they are
            of another number of classes.
    """
    has_sets = ['multi_labels' in gt for gt in gt_instances]
    if not any(has_sets):
        return None
    rows = []
    for i, (gt, inds) in enumerate(zip(gt_instances, gt_inds, strict=True)):
        if not len(inds):
            continue
        if not has_sets[i]:
            raise ValueError(
                f'image {i} of the batch has objects but no `multi_labels`, others '
                'have: use `mmdet_imbalance.PackMultiLabelDetInputs` in the pipelines '
                'of all datasets, or of none'
            )
        sets = gt.multi_labels
        if sets.shape != (len(gt.labels), num_classes):
            raise ValueError(
                f'`multi_labels` of image {i} must have shape ({len(gt.labels)}, '
                f'{num_classes}), got {tuple(sets.shape)}'
            )
        rows.append(sets[inds] > 0)
    if rows:
        return torch.cat(rows)
    device = gt_inds[0].device
    return torch.zeros((0, num_classes), dtype=torch.bool, device=device)


def unique_gt_ids(gt_inds: list[Tensor], num_gts: list[int]) -> Tensor:
    """Ground truth of each positive, numbered through all images, shape (P,).

    Args:
        gt_inds: ground truth of each positive, by image, shape (P_i,).
        num_gts: number of ground truths of each image.
    """
    first, ids = 0, []
    for inds, num in zip(gt_inds, num_gts, strict=True):
        ids.append(inds + first)
        first += num
    return torch.cat(ids)
