"""The stock RoI head with richer targets, importance weights and extra losses.

Shapes: B images, N RoIs of the batch, P positives among them, C foreground classes
(background is index C).
Deviations from the host: none where the config asks for nothing of the above; the
host's own code runs then.
"""

import torch
from mmdet.models.losses import accuracy
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures.bbox import bbox2roi, get_box_tensor
from torch import Tensor

from mmdet_imbalance.models.region_losses import RegionLosses, check_distribution
from mmdet_imbalance.models.regions import (
    Regions,
    gather_multi_labels,
    unique_gt_ids,
)
from mmdet_imbalance.models.roi_heads.batch_sampling import (
    sample_batch,
    samples_over_batch,
)
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class ImbalanceRoIHead(StandardRoIHead):
    """RoI head that hands a loss the target it names, and weighs RoIs by importance.

    The target is built for `loss_cls.target_kind`; `gt_instances.multi_labels` (G, C)
    reaches the loss where the data have it. A positive RoI sampler of `scope='batch'`
    picks among the positives of all images.

    Args:
        importance_weights: configs such as
            `dict(type='mmdet_imbalance.IoUHierarchicalWeight')`, applied in order.
        extra_losses: configs such as
            `dict(type='mmdet_imbalance.ClassificationAwareRegressionLoss')`.
        score_weighted_regression: weigh the box loss of positives by their detached
            best score, scaled to a mean of 1 (the box loss of GFL).
        **kwargs: arguments of the host's `StandardRoIHead`.
    """

    def __init__(
        self,
        importance_weights: list[dict] | None = None,
        extra_losses: list[dict] | None = None,
        score_weighted_regression: bool = False,
        **kwargs,
    ) -> None:
        bbox_head = kwargs.get('bbox_head')
        if isinstance(bbox_head, (list, tuple)):
            raise ValueError(
                'ImbalanceRoIHead has one stage, got a list of bbox heads; the losses '
                "of the package work in the host's CascadeRoIHead, importance weights "
                'and extra losses do not'
            )
        super().__init__(**kwargs)
        self.region_losses = RegionLosses(importance_weights, extra_losses)
        self.score_weighted_regression = score_weighted_regression
        if self.with_bbox:
            head = self.bbox_head
            self.region_losses.check_head(
                head.loss_cls, head.loss_bbox, head.bbox_coder, head.num_classes
            )
            check_distribution(head.bbox_coder, head.reg_decoded_bbox)

    @property
    def _is_stock(self) -> bool:
        """Whether the host's own code does all that the config asks for."""
        return (
            not self.with_bbox
            or (
                self.region_losses.is_trivial
                and not self.score_weighted_regression
                and getattr(self.bbox_head.loss_cls, 'target_kind', 'label') == 'label'
            )
        ) and not samples_over_batch(self.bbox_sampler)

    def loss(self, x: tuple[Tensor], rpn_results_list, batch_data_samples) -> dict:
        """Losses of a batch; arguments and result as in the host."""
        if self._is_stock:
            return super().loss(x, rpn_results_list, batch_data_samples)
        gts, gts_ignore, img_metas = unpack_gt_instances(batch_data_samples)
        sampling_results = self.sample(x, rpn_results_list, gts, gts_ignore)
        losses = {}
        bbox_feats = None
        if self.with_bbox:
            results = self.region_bbox_loss(x, sampling_results, gts, img_metas)
            losses.update(results['loss_bbox'])
            bbox_feats = results['bbox_feats']
        if self.with_mask:
            results = self.mask_loss(x, sampling_results, bbox_feats, gts)
            losses.update(results['loss_mask'])
        return losses

    def sample(
        self, x: tuple[Tensor], rpn_results_list, gts: list, gts_ignore: list
    ) -> list[SamplingResult]:
        """Assign and sample the RoIs of all images."""
        assign_results = []
        for rpn_results, gt, ignore in zip(
            rpn_results_list, gts, gts_ignore, strict=True
        ):
            # The host's assigners look for `priors`.
            rpn_results.priors = rpn_results.pop('bboxes')
            assign_results.append(self.bbox_assigner.assign(rpn_results, gt, ignore))
        feats = [[level[i][None] for level in x] for i in range(len(gts))]
        return sample_batch(
            self.bbox_sampler, assign_results, rpn_results_list, gts, feats
        )

    def region_bbox_loss(
        self,
        x: tuple[Tensor],
        sampling_results: list[SamplingResult],
        gts: list,
        img_metas: list[dict],
    ) -> dict:
        """Box-head losses; what the host's `bbox_loss` does, with the richer target."""
        head = self.bbox_head
        rois = bbox2roi([result.priors for result in sampling_results])
        results = self._bbox_forward(x, rois)
        targets = head.get_targets(sampling_results, self.train_cfg)
        regions = self._regions(
            results, rois, targets, sampling_results, gts, img_metas
        )
        losses = {}
        if head.with_cls:
            avg_factor = (regions.label_weights > 0).sum().clamp(min=1).float()
            losses.update(self.region_losses.classification(regions, avg_factor))
            losses.update(self._accuracy(regions))
        if head.with_reg:
            labels, label_weights, bbox_targets, bbox_weights = targets
            if self.score_weighted_regression:
                weights = regions.score_weights().unsqueeze(1)
                bbox_weights = bbox_weights.index_copy(
                    0, regions.pos_inds, bbox_weights[regions.pos_inds] * weights
                )
            # Without logits the host's loss is that of the boxes alone.
            box_losses = head.loss(
                None,
                results['bbox_pred'],
                rois,
                labels,
                label_weights,
                bbox_targets,
                bbox_weights,
            )
            losses.update(box_losses)
            losses.update(self.region_losses.extras(regions, max(len(rois), 1)))
        results['loss_bbox'] = losses
        return results

    def _regions(
        self, results: dict, rois: Tensor, targets, sampling_results, gts, img_metas
    ) -> Regions:
        head = self.bbox_head
        labels, label_weights = targets[:2]
        gt_inds = [result.pos_assigned_gt_inds for result in sampling_results]
        # Positives come first in each image, in the order of the sampling result.
        is_positive = [
            torch.arange(len(result.priors), device=rois.device) < len(inds)
            for result, inds in zip(sampling_results, gt_inds, strict=True)
        ]
        boxes = [get_box_tensor(result.pos_gt_bboxes) for result in sampling_results]
        return Regions(
            cls_score=results['cls_score'],
            bbox_pred=results['bbox_pred'],
            labels=labels,
            label_weights=label_weights,
            priors=rois[:, 1:],
            image_ids=rois[:, 0].long(),
            pos_inds=torch.cat(is_positive).nonzero().squeeze(1),
            gt_ids=unique_gt_ids(gt_inds, [len(gt) for gt in gts]),
            pos_gt_boxes=torch.cat(boxes),
            multi_labels=gather_multi_labels(gts, gt_inds, head.num_classes),
            img_metas=img_metas,
            num_classes=head.num_classes,
            loss_cls=head.loss_cls,
            loss_bbox=head.loss_bbox,
            bbox_coder=head.bbox_coder,
            class_agnostic=head.reg_class_agnostic,
        )

    def _accuracy(self, regions: Regions) -> dict[str, Tensor]:
        if self.bbox_head.custom_accuracy:
            return self.bbox_head.loss_cls.get_accuracy(
                regions.cls_score, regions.labels
            )
        return dict(acc=accuracy(regions.cls_score, regions.labels))
