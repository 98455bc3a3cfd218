"""Base of the RoI samplers: random choice from a generator of its own, strict keys.

Each subclass overrides either `_sample_pos` or `_sample_neg`; the host's
`CombinedSampler` joins one of each, and by itself a sampler chooses the other kind at
random.

Shapes: n candidates of an image (ground truths first, where they are proposals).
Deviations from the host: misspelt keys raise, the global generators are left alone.
"""

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import BaseSampler
from torch import Tensor

from mmdet_imbalance.registry import TASK_UTILS


@TASK_UTILS.register_module()
class PlainRoISampler(BaseSampler):
    """Positives and negatives at random, at a fixed fraction.

    When to use it: the baseline against which the others are compared; enough where
    neither classes nor easy negatives outweigh the rest.

    Args:
        num: RoIs of an image.
        pos_fraction: largest fraction of positives.
        neg_pos_ub: largest number of negatives for each positive; -1 for no bound.
        add_gt_as_proposals: whether ground truths are candidates too.
        seed: of the sampler's own generator; None takes the seed of torch's default
            generator (`randomness.seed` of the config).
        context: the RoI head, which the host hands over.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        neg_pos_ub: int = -1,
        add_gt_as_proposals: bool = True,
        seed: int | None = None,
        context=None,
    ) -> None:
        if num < 1 or not 0 <= pos_fraction <= 1:
            raise ValueError(
                'a RoI sampler needs num >= 1 and a pos_fraction in [0, 1], got '
                f'num={num!r}, pos_fraction={pos_fraction!r}'
            )
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        check_assigner(context)
        self.context = context
        self.seed = seed
        self._generators = {}

    def generator(self, device: torch.device | str) -> torch.Generator:
        """The sampler's own generator on a device."""
        return own_generator(self._generators, device, self.seed)

    def _sample_pos(
        self, assign_result: AssignResult, num_expected: int, **kwargs
    ) -> Tensor:
        """Indices of the chosen positives, shape (min(num_expected, P),)."""
        return self.choose_at_random(positives(assign_result), num_expected)

    def _sample_neg(
        self, assign_result: AssignResult, num_expected: int, **kwargs
    ) -> Tensor:
        """Indices of the chosen negatives."""
        return self.choose_at_random(negatives(assign_result), num_expected)

    def choose_at_random(self, inds: Tensor, num: int) -> Tensor:
        """`num` of `inds`, all of them where there are no more."""
        if len(inds) <= num:
            return inds
        generator = self.generator(inds.device)
        order = torch.randperm(len(inds), generator=generator, device=inds.device)
        return inds[order[: max(num, 0)]]


def own_generator(
    generators: dict[torch.device, torch.Generator],
    device: torch.device | str,
    seed: int | None,
) -> torch.Generator:
    """Generator of a device out of `generators`, made and seeded at the first time.

    Args:
        generators: those that were made so far; changed.
        device: of the random numbers.
        seed: None takes that of torch's default generator.
    """
    device = torch.device(device)
    if device not in generators:
        seed = torch.initial_seed() if seed is None else seed
        generators[device] = torch.Generator(device).manual_seed(seed)
    return generators[device]


def check_assigner(context) -> None:
    """Refuse an assigner whose thresholds leave no negatives without a word.

    The host's assigners take `neg_iou_thr=(low, high)` for a range only where it is a
    tuple; a list, as JSON, YAML and `--cfg-options` write it, gives no negative at all.

    Args:
        context: the RoI head, with one assigner or, in a cascade, a list of those
            that are built so far; None outside a head.

    Raises:
        ValueError: a list, with what to write instead.
    """
    assigners = getattr(context, 'bbox_assigner', None)
    for assigner in assigners if isinstance(assigners, list) else [assigners]:
        threshold = getattr(assigner, 'neg_iou_thr', None)
        if isinstance(threshold, list):
            raise ValueError(
                f'`neg_iou_thr={threshold}` of {type(assigner).__name__} is a list, '
                'with which the host finds no negatives: write the tuple '
                f'{tuple(threshold)}, or a number there and `iou_range` of '
                'mmdet_imbalance.IoURangeNegSampler'
            )


def positives(assign_result: AssignResult) -> Tensor:
    """Candidates that are assigned to an object, shape (P,)."""
    return (assign_result.gt_inds > 0).nonzero().squeeze(1)


def negatives(assign_result: AssignResult) -> Tensor:
    """Candidates that are background (ignored ones are not), shape (M,)."""
    return (assign_result.gt_inds == 0).nonzero().squeeze(1)
