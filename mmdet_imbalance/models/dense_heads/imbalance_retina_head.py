"""The stock RetinaNet head with all levels in one loss, and what that makes possible.

Focal loss paper for the prior of the initial bias: Lin et al., "Focal Loss for Dense
Object Detection", ICCV 2017, arXiv 1708.02002, section 4.1.

Shapes: B images, A anchors of an image over all levels, N = B * A, P positives among
them, C foreground classes (background is index C).
Deviations from the host: losses with `target_kind` are taken over all levels at once,
so GHM sees one density. With any other loss, and nothing else asked for, the host's own
code runs. The bias of a softmax starts at the prior that the host gives a sigmoid.
"""

import math

import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.structures.bbox import cat_boxes, get_box_tensor
from torch import Tensor

from mmdet_imbalance.models.losses.affinity import AffinityLoss
from mmdet_imbalance.models.losses.base import ClassificationLoss
from mmdet_imbalance.models.region_losses import RegionLosses, check_distribution
from mmdet_imbalance.models.regions import (
    Regions,
    gather_multi_labels,
    unique_gt_ids,
)
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class ImbalanceRetinaHead(RetinaHead):
    """RetinaNet head that hands a loss the target it names, and weighs anchors.

    The number of channels is that of the loss, softmax losses included: their
    background column never becomes a detection, and starts with nearly all of the
    probability, so that no sampler of negatives is needed.
    `gt_instances.multi_labels` (G, C) reaches the loss as label sets of the positives
    only, where the data have it.

    Args:
        importance_weights: configs such as
            `dict(type='mmdet_imbalance.IoUHierarchicalWeight')`, applied in order.
        extra_losses: configs such as
            `dict(type='mmdet_imbalance.ClassificationAwareRegressionLoss')`.
        score_weighted_regression: weigh the box loss of positives by their detached
            best score, scaled to a mean of 1 (the box loss of GFL).
        joint_levels: one loss over all levels; False calls the losses once for each
            level, as the host does, and adds up.
        **kwargs: arguments of the host's `RetinaHead`.
    """

    def __init__(
        self,
        *args,
        importance_weights: list[dict] | None = None,
        extra_losses: list[dict] | None = None,
        score_weighted_regression: bool = False,
        joint_levels: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.region_losses = RegionLosses(importance_weights, extra_losses)
        self.score_weighted_regression = score_weighted_regression
        self.joint_levels = joint_levels
        self.region_losses.check_head(
            self.loss_cls, self.loss_bbox, self.bbox_coder, self.num_classes
        )
        check_distribution(self.bbox_coder, self.reg_decoded_bbox)
        if not joint_levels and not (
            self.region_losses.is_trivial and not score_weighted_regression
        ):
            raise ValueError(
                'importance weights, extra losses and score-weighted regression rank '
                'or normalise over all levels: they need joint_levels=True'
            )

    def _init_layers(self) -> None:
        """Layers of the host, with as many channels as the loss asks for."""
        loss = self.loss_cls
        if isinstance(loss, AffinityLoss):
            raise ValueError(
                'AffinityLoss compares with prototypes, which `AffinityPredictor` '
                'holds in a box head; a dense head has no such predictor'
            )
        if isinstance(loss, ClassificationLoss):
            if loss.num_classes != self.num_classes:
                raise ValueError(
                    f'{type(loss).__name__} was built with '
                    f'num_classes={loss.num_classes}, but its head has '
                    f'num_classes={self.num_classes}'
                )
            self.use_sigmoid_cls = loss.use_sigmoid
            self.cls_out_channels = loss.cls_channels
        elif getattr(loss, 'custom_cls_channels', False):
            raise ValueError(
                f'{type(loss).__name__} has channels of its own, and the prediction of '
                "the host's dense heads takes its background score for a class; use "
                'it in `ImbalanceRoIHead`'
            )
        super()._init_layers()

    def init_weights(self) -> None:
        """Weights of the host; a softmax starts at the same foreground probability.

        The host's bias b gives each class of a sigmoid the prior sigmoid(b). With
        log(C) for the background the C classes of a softmax have it together:
        C e^b / (C e^b + C) = sigmoid(b).
        """
        super().init_weights()
        if isinstance(self.loss_cls, ClassificationLoss) and not self.use_sigmoid_cls:
            bias = self.retina_cls.bias.data.view(-1, self.cls_out_channels)
            bias[:, self.num_classes] = math.log(self.num_classes)

    @property
    def _is_stock(self) -> bool:
        """Whether the host's own code does all that the config asks for."""
        return (
            self.region_losses.is_trivial
            and not self.score_weighted_regression
            and not hasattr(self.loss_cls, 'target_kind')
            and not hasattr(self.loss_bbox, 'averages_over_valid')
        )

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: list,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list | None = None,
    ) -> dict:
        """Losses of a batch; arguments and result as in the host."""
        if self._is_stock:
            return super().loss_by_feat(
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        num_imgs = len(batch_img_metas)
        anchors, flags = self.get_anchors(
            [level.shape[-2:] for level in cls_scores],
            batch_img_metas,
            device=cls_scores[0].device,
        )
        num_per_level = [len(level) for level in anchors[0]]
        *targets, avg_factor, sampling_results = self.get_targets(
            anchors,
            flags,
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore=batch_gt_instances_ignore,
            return_sampling_results=True,
        )
        labels, label_weights, bbox_targets, bbox_weights = (
            torch.cat(target, dim=1) for target in targets
        )
        gt_inds = [result.pos_assigned_gt_inds for result in sampling_results]
        pos_boxes = [get_box_tensor(r.pos_gt_bboxes) for r in sampling_results]
        priors = torch.stack([get_box_tensor(cat_boxes(each)) for each in anchors])
        device = labels.device
        regions = Regions(
            cls_score=self._flatten(cls_scores, self.cls_out_channels),
            bbox_pred=self._flatten(bbox_preds, self.bbox_coder.encode_size),
            labels=labels.flatten(),
            label_weights=label_weights.flatten(),
            priors=priors.flatten(0, 1),
            image_ids=torch.arange(num_imgs, device=device).repeat_interleave(
                sum(num_per_level)
            ),
            # Rows are image by image, anchors ascending, as in the sampling results.
            pos_inds=(labels.flatten() < self.num_classes).nonzero().squeeze(1),
            gt_ids=unique_gt_ids(gt_inds, [len(gt) for gt in batch_gt_instances]),
            pos_gt_boxes=torch.cat(pos_boxes),
            multi_labels=gather_multi_labels(
                batch_gt_instances, gt_inds, self.num_classes
            ),
            img_metas=batch_img_metas,
            num_classes=self.num_classes,
            loss_cls=self.loss_cls,
            loss_bbox=self.loss_bbox,
            bbox_coder=self.bbox_coder,
        )
        targets = bbox_targets.flatten(0, 1), bbox_weights.flatten(0, 1)
        if not self.joint_levels:
            return self._loss_by_level(regions, targets, num_per_level, avg_factor)
        losses = self.region_losses.classification(regions, avg_factor)
        losses['loss_bbox'] = self._regression(regions, *targets, avg_factor)
        losses.update(self.region_losses.extras(regions, avg_factor))
        return losses

    def _flatten(self, levels: list[Tensor], channels: int) -> Tensor:
        """Maps (B, a * channels, H, W) of all levels to (N, channels)."""
        flat = [
            level.permute(0, 2, 3, 1).reshape(level.size(0), -1, channels)
            for level in levels
        ]
        return torch.cat(flat, dim=1).flatten(0, 1)

    def _regression(
        self,
        regions: Regions,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: float | Tensor,
    ) -> Tensor:
        """Box loss of the positives; all other anchors weigh nothing."""
        inds = regions.pos_inds
        pred, weight = regions.bbox_pred[inds], bbox_weights[inds]
        if self.reg_decoded_bbox:
            pred = get_box_tensor(self.bbox_coder.decode(regions.pos_priors, pred))
        if self.score_weighted_regression:
            weight = weight * regions.score_weights().unsqueeze(1)
        if getattr(self.loss_bbox, 'averages_over_valid', False):
            # Called without positives too: every rank must reach its all-reduce.
            avg_factor = None
        elif not len(inds):
            # Host losses disagree on empty input; the zero stays on the graph.
            return pred.sum() * 0
        return self.loss_bbox(pred, bbox_targets[inds], weight, avg_factor=avg_factor)

    def _loss_by_level(
        self,
        regions: Regions,
        targets: tuple[Tensor, Tensor],
        num_per_level: list[int],
        avg_factor: float | Tensor,
    ) -> dict:
        """One loss for each level, as the host: GHM then has a density of each."""
        device = regions.labels.device
        level_of_anchor = torch.cat(
            [
                torch.full((num,), level, device=device)
                for level, num in enumerate(num_per_level)
            ]
        )
        level_of_row = level_of_anchor.repeat(len(regions.img_metas))
        losses: dict[str, list] = dict(loss_cls=[], loss_bbox=[])
        for level in range(len(num_per_level)):
            rows = (level_of_row == level).nonzero().squeeze(1)
            part = regions.take(rows)
            losses['loss_cls'].append(
                self.region_losses.classification(part, avg_factor)['loss_cls']
            )
            losses['loss_bbox'].append(
                self._regression(part, *(t[rows] for t in targets), avg_factor)
            )
        return losses
