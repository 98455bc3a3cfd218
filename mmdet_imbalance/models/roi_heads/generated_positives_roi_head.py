"""RoI head that makes its positives instead of taking those of the proposals.

Oksuz et al., "Generating Positive Bounding Boxes for Balanced Training of Object
Detectors", WACV 2020, https://arxiv.org/abs/1909.09777, the generator of positive RoIs.

Shapes: n proposals, N generated boxes of an image.
Deviations: those of `core/positive_boxes.py`.
"""

from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_imbalance.core.positive_boxes import (
    balanced_positive_boxes,
    check_iou_intervals,
)
from mmdet_imbalance.models.roi_heads.imbalance_roi_head import ImbalanceRoIHead
from mmdet_imbalance.models.task_modules.samplers.roi_sampler import own_generator
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class GeneratedPositivesRoIHead(ImbalanceRoIHead):
    """`ImbalanceRoIHead` whose positives are made around the ground truth.

    Generated boxes join the proposals before these are assigned, balanced over classes
    and over intervals of IoU; any RoI sampler then chooses among them.  With
    `num_generated` equal to `num * pos_fraction` of the sampler and
    `add_gt_as_proposals=False` they are all its positives.

    Args:
        num_generated: boxes of an image; none where nothing is annotated.
        iou_edges: bounds of the intervals of IoU, rising, in (0, 1].  Those below the
            assigner's `pos_iou_thr` would make negatives.
        iou_weights: relative weights of the intervals; None for equal ones.
        replace: leave out the proposals that would be positives, as the paper does;
            False adds to them.
        seed: of the head's own generator; None takes the seed of torch's default
            generator (`randomness.seed` of the config).
        **kwargs: arguments of `ImbalanceRoIHead`.
    """

    def __init__(
        self,
        num_generated: int,
        iou_edges: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        iou_weights: Sequence[float] | None = None,
        replace: bool = True,
        seed: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if num_generated < 1:
            raise ValueError(
                f'`num_generated` must be at least 1, got {num_generated!r}'
            )
        self.num_generated = num_generated
        self.iou_edges, self.iou_weights = check_iou_intervals(iou_edges, iou_weights)
        self.replace = replace
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}
        if self.bbox_assigner is not None:
            threshold = self.positive_iou
            if threshold > self.iou_edges[0]:
                raise ValueError(
                    f'generated boxes of IoU {self.iou_edges[0]} would be no positives '
                    f'with pos_iou_thr={threshold} of the assigner: raise the first of '
                    '`iou_edges` to it'
                )

    @property
    def positive_iou(self) -> float:
        """IoU from which on the assigner takes a proposal for a positive."""
        threshold = getattr(self.bbox_assigner, 'pos_iou_thr', None)
        if threshold is None:
            raise ValueError(
                f'{type(self.bbox_assigner).__name__} has no `pos_iou_thr`: generated '
                'positives need an assigner by IoU, such as MaxIoUAssigner'
            )
        return float(threshold)

    def loss(self, x: tuple[Tensor], rpn_results_list, batch_data_samples) -> dict:
        """Losses of a batch; arguments and result as in the host."""
        joined = [
            self.with_positives(proposals, sample)
            for proposals, sample in zip(
                rpn_results_list, batch_data_samples, strict=True
            )
        ]
        return super().loss(x, joined, batch_data_samples)

    def with_positives(self, proposals: InstanceData, sample) -> InstanceData:
        """Proposals of an image with generated boxes behind them.

        Args:
            proposals: of the RPN, with `bboxes` (n, 4).
            sample: with `gt_instances` and the metainfo `img_shape`.
        """
        boxes = get_box_tensor(proposals.bboxes)
        gt = sample.gt_instances
        gt_boxes = get_box_tensor(gt.bboxes).to(boxes)
        generated, _ = balanced_positive_boxes(
            gt_boxes,
            gt.labels,
            self.num_generated,
            own_generator(self._generators, boxes.device, self.seed),
            tuple(sample.img_shape[:2]),
            self.iou_edges,
            self.iou_weights,
        )
        if self.replace and len(gt_boxes):
            best = bbox_overlaps(boxes, gt_boxes).amax(dim=1)
            boxes = boxes[best < self.positive_iou]
        return InstanceData(bboxes=torch.cat([boxes, generated]))
