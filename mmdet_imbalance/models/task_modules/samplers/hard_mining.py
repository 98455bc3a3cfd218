"""Hard RoIs: highest-scoring negatives, and OHEM as its paper has it.

Hard-negative mining: Sung and Poggio, TPAMI 1998, as Oksuz et al., "Imbalance Problems
in Object Detection: A Review", TPAMI 2020, https://arxiv.org/abs/1909.00169, section
4.1, sum it up.
OHEM: Shrivastava et al., CVPR 2016, https://arxiv.org/abs/1604.03540, section 4.

Shapes: n candidates of an image, C classes.
Deviations: none.  The host's `OHEMSampler` mines positives and negatives apart, by the
classification loss only, without NMS.
"""

from contextlib import contextmanager

import torch
from mmcv.ops import nms
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures.bbox import bbox2roi, get_box_tensor
from torch import Tensor, nn

from mmdet_imbalance.core.loss_scores import loss_scores
from mmdet_imbalance.models.task_modules.samplers.roi_sampler import (
    PlainRoISampler,
    negatives,
    positives,
)
from mmdet_imbalance.registry import TASK_UTILS


@TASK_UTILS.register_module()
class HardNegativeSampler(PlainRoISampler):
    """Takes the negatives that the head scores highest as some class.

    When to use it: false positives of high confidence dominate the error, and the
    labels are complete.  Not where objects are un-annotated: they would be picked.

    Args:
        num, pos_fraction, neg_pos_ub, add_gt_as_proposals, seed, context: as
            `PlainRoISampler`.
    """

    def _sample_neg(
        self,
        assign_result: AssignResult,
        num_expected: int,
        bboxes=None,
        feats=None,
        **kwargs,
    ) -> Tensor:
        inds = negatives(assign_result)
        if len(inds) <= num_expected:
            return inds
        head, _ = box_head_of(self)
        with torch.no_grad(), evaluating(self.context):
            rois = bbox2roi([bboxes[inds]])
            logits = box_forward(self.context, feats, rois)['cls_score']
            score = foreground_scores(head, logits).amax(dim=1)
        return inds[score.topk(max(num_expected, 0)).indices]


@TASK_UTILS.register_module()
class TotalLossOHEMSampler(PlainRoISampler):
    """Takes the RoIs of highest total loss, positive or negative, after NMS.

    When to use it: instead of tuning `pos_fraction`; it has no effect here, the loss
    decides.  Not with noisy labels: they have the highest loss.  Is the whole sampler
    of a head, not one half of a `CombinedSampler`.

    Args:
        num: RoIs of an image (B / N of the paper).
        pos_fraction: has no effect; the host's configs give it.
        nms_iou_thr: RoIs that overlap one of higher loss by more are left out; an image
            may so have fewer than `num`.
        neg_pos_ub: must stay -1, there is no ratio.
        add_gt_as_proposals: whether ground truths are candidates too.
        context: the RoI head, which the host hands over.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float = 0.25,
        nms_iou_thr: float = 0.7,
        neg_pos_ub: int = -1,
        add_gt_as_proposals: bool = True,
        context=None,
    ) -> None:
        if neg_pos_ub != -1:
            raise ValueError(
                'OHEM has no ratio of negatives to positives: leave out '
                f'`neg_pos_ub`, got {neg_pos_ub!r}'
            )
        if not 0 < nms_iou_thr <= 1:
            raise ValueError(f'`nms_iou_thr` must lie in (0, 1], got {nms_iou_thr!r}')
        super().__init__(num, pos_fraction, -1, add_gt_as_proposals, context=context)
        self.nms_iou_thr = nms_iou_thr

    def sample(
        self, assign_result: AssignResult, pred_instances, gt_instances, **kwargs
    ) -> SamplingResult:
        """Sample an image; arguments and result as in the host."""
        # The host asks for positives and negatives one after the other; the choice is
        # made once, and travels with this call.
        return super().sample(
            assign_result,
            pred_instances,
            gt_instances,
            gt_boxes=gt_instances.bboxes,
            choice={},
            **kwargs,
        )

    def _sample_pos(
        self,
        assign_result: AssignResult,
        num_expected: int,
        bboxes=None,
        feats=None,
        gt_boxes=None,
        choice=None,
        **kwargs,
    ) -> Tensor:
        if choice is None:
            raise ValueError(
                'TotalLossOHEMSampler chooses positives and negatives together and '
                'cannot be half of a CombinedSampler: make it the `sampler` itself'
            )
        hardest = self._hardest(assign_result, bboxes, feats, gt_boxes)
        is_positive = assign_result.gt_inds[hardest] > 0
        choice['negatives'] = hardest[~is_positive]
        return hardest[is_positive]

    def _sample_neg(
        self, assign_result: AssignResult, num_expected: int, choice=None, **kwargs
    ) -> Tensor:
        return choice['negatives']

    def _hardest(self, assign_result, boxes, feats, gt_boxes) -> Tensor:
        pos_inds, neg_inds = positives(assign_result), negatives(assign_result)
        inds = torch.cat([pos_inds, neg_inds])
        if not len(inds):
            return inds
        everything = SamplingResult(
            pos_inds=pos_inds,
            neg_inds=neg_inds,
            priors=boxes,
            gt_bboxes=gt_boxes,
            assign_result=assign_result,
            gt_flags=assign_result.gt_inds.new_zeros(len(boxes), dtype=torch.uint8),
        )
        head, train_cfg = box_head_of(self)
        with torch.no_grad(), evaluating(self.context):
            rois = bbox2roi([everything.priors])
            results = box_forward(self.context, feats, rois)
            losses = head.loss_and_target(
                results['cls_score'],
                results['bbox_pred'],
                rois,
                [everything],
                train_cfg,
                reduction_override='none',
            )['loss_bbox']
            loss = total_loss(losses, len(inds), len(pos_inds))
        tensor = get_box_tensor(boxes)[inds].float()
        _, kept = nms(tensor, loss.float(), iou_threshold=self.nms_iou_thr)
        return inds[kept[: self.num]]


def total_loss(losses: dict[str, Tensor], num: int, num_pos: int) -> Tensor:
    """Sum of all unreduced losses of each candidate, positives first, shape (n,).

    Raises:
        ValueError: a loss that has one value neither a candidate nor a positive.
    """
    total = 0
    for name, loss in losses.items():
        if 'loss' not in name:
            continue
        # A box loss without positives is a zero that hangs on the graph.
        if num_pos == 0 and (loss.ndim == 0 or loss.numel() == 0):
            continue
        rows = loss.flatten(1).sum(dim=1) if loss.ndim > 1 else loss
        if len(rows) not in (num, num_pos):
            raise ValueError(
                f'OHEM needs the loss of each RoI, but `{name}` of {num} RoIs has '
                f'shape {tuple(loss.shape)}: does it honour reduction_override="none"?'
            )
        total = total + nn.functional.pad(rows, (0, num - len(rows)))
    return total


def foreground_scores(head: nn.Module, logits: Tensor) -> Tensor:
    """Scores of the classes without background, shape (n, C)."""
    scores = loss_scores(head.loss_cls, logits, head.num_classes)
    return scores[:, : head.num_classes]


def box_head_of(sampler: PlainRoISampler) -> tuple[nn.Module, dict]:
    """Box head and training config of the RoI head (in a cascade, of the stage)."""
    context = sampler.context
    if context is None or not hasattr(context, 'bbox_head'):
        raise ValueError(
            f'{type(sampler).__name__} scores RoIs with a box head: it belongs in '
            '`train_cfg.rcnn.sampler` of a two-stage detector'
        )
    if isinstance(context.bbox_head, nn.ModuleList):
        stage = context.current_stage
        return context.bbox_head[stage], context.train_cfg[stage]
    return context.bbox_head, context.train_cfg


def box_forward(context: nn.Module, feats, rois: Tensor) -> dict:
    """Forward of the box head as the RoI head does it."""
    if isinstance(context.bbox_head, nn.ModuleList):
        return context._bbox_forward(context.current_stage, feats, rois)
    return context._bbox_forward(feats, rois)


@contextmanager
def evaluating(module: nn.Module):
    """Keep statistics (of norms, of losses) as they are during a trial forward."""
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for one, mode in modes:
            one.training = mode
