"""RoI sampling in which the positives of a whole batch compete.

Oksuz et al., "Generating Positive Bounding Boxes for Balanced Training of Object
Detectors", WACV 2020, https://arxiv.org/abs/1909.09777, balance classes over the batch;
the host's samplers see one image.

Shapes: B images, P_i positives of image i.
Deviations: none, this is plumbing. A positive sampler of the batch has `scope` 'batch'
and a method `sample_batch_pos(labels, num_expected)`, from the labels of the positives
of each image, shape (P_i,), and the number of positives of the whole batch, to the
positions that it picks in each image. Negatives fill up each image, as in the host.
"""

import copy

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from torch import Tensor


def samples_over_batch(sampler) -> bool:
    """Whether the positives of the sampler compete over the batch."""
    return getattr(positive_sampler(sampler), 'scope', 'image') == 'batch'


def positive_sampler(sampler):
    """The part of a sampler that chooses positives."""
    return getattr(sampler, 'pos_sampler', sampler)


def sample_batch(
    sampler,
    assign_results: list[AssignResult],
    pred_instances: list,
    gt_instances: list,
    feats: list[list[Tensor]],
) -> list[SamplingResult]:
    """Sample the RoIs of all images, over the batch where the sampler says so.

    Args:
        sampler: RoI sampler of the head.
        assign_results: one of each image.
        pred_instances: proposals of each image, with `priors`.
        gt_instances: ground truth of each image.
        feats: feature levels of each image, for samplers that look at losses.
    """
    samplers = [sampler] * len(assign_results)
    if samples_over_batch(sampler):
        candidates, labels = zip(
            *(
                positive_candidates(sampler, assigned, gt.labels)
                for assigned, gt in zip(assign_results, gt_instances, strict=True)
            ),
            strict=True,
        )
        num_expected = int(sampler.num * sampler.pos_fraction) * len(labels)
        picked = positive_sampler(sampler).sample_batch_pos(list(labels), num_expected)
        samplers = [
            _with_positives(sampler, inds[positions])
            for inds, positions in zip(candidates, picked, strict=True)
        ]
    results = []
    for i, image_sampler in enumerate(samplers):
        result = image_sampler.sample(
            assign_results[i], pred_instances[i], gt_instances[i], feats=feats[i]
        )
        if isinstance(result, tuple):
            raise ValueError(
                f'{type(sampler).__name__} returns weights beside its samples: use any '
                "other sampler with dict(type='mmdet_imbalance."
                "ScoreHierarchicalWeight') in `importance_weights`"
            )
        results.append(result)
    return results


def positive_candidates(
    sampler, assign_result: AssignResult, gt_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Positives of an image as the host's `sample` will number them.

    Args:
        sampler: RoI sampler; it may put the ground truths before the proposals.
        assign_result: assignment of the proposals.
        gt_labels: labels of the ground truths, shape (G,).

    Returns:
        Indices, shape (P_i,), and labels, shape (P_i,).
    """
    inds = (assign_result.gt_inds > 0).nonzero().squeeze(1)
    labels = assign_result.labels[inds]
    if not sampler.add_gt_as_proposals:
        return inds, labels
    first = torch.arange(len(gt_labels), device=inds.device)
    return (
        torch.cat([first, inds + len(gt_labels)]),
        torch.cat([gt_labels, labels]),
    )


class _PickedPositives:
    """Stands in for a positive sampler once the positives are known."""

    def __init__(self, inds: Tensor) -> None:
        self.inds = inds

    def _sample_pos(self, assign_result: AssignResult, num_expected: int, **kwargs):
        return self.inds


def _with_positives(sampler, inds: Tensor):
    # A shallow copy: the head's own sampler is left as it is.
    sampler = copy.copy(sampler)
    sampler.pos_sampler = _PickedPositives(inds)
    return sampler
