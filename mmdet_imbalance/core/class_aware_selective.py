"""Class-aware selective loss for partly annotated data.

Ben-Baruch et al., "Multi-label Classification with Partial Annotations using
Class-aware Selective Loss", CVPR 2022, https://arxiv.org/abs/2110.10955:

    L_F(p, gamma) = -(1 - p)^gamma log p
    L = sum_P L_F(p, gamma+) + sum_N L_F(1 - p, gamma-) + sum_U w L_F(1 - p, gamma_u)

where w is 0 for the likeliest un-annotated classes of a sample and for classes whose
prior is high.

Fully annotated it is the asymmetric loss (ASL) of Ridnik et al., ICCV 2021, arXiv
2009.14119, whose probability margin m takes `max(p - m, 0)` for the p of negatives.

Shapes: N rows, C classes.  Targets: 1 positive, 0 negative, -1 un-annotated.
Deviations: the focal factor is computed through log-sigmoid and stays finite for any
logit; gradients flow through it unless `detach_focal` is set (the authors' code
detaches it, their text does not say).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.precision import at_least_float32


def partial_asymmetric_loss(
    logits: Tensor,
    target: Tensor,
    gamma_pos: float,
    gamma_neg: float,
    gamma_unann: float,
    unann_weight: Tensor | None = None,
    detach_focal: bool = False,
    clip: float = 0.0,
) -> Tensor:
    """Asymmetric focal terms of positive, negative and un-annotated classes.

    Args:
        logits: shape (N, C).
        target: shape (N, C), int8 of 1, 0 and -1 (un-annotated).
        gamma_pos: focusing exponent of the positives.
        gamma_neg: focusing exponent of the negatives.
        gamma_unann: focusing exponent of the un-annotated, which count as weak
            negatives.
        unann_weight: weight of the un-annotated entries, shape (N, C) or (C,); None
            is 1.  Annotated entries are not weighted.
        detach_focal: keep the gradient out of the focal factor.
        clip: probability margin of negatives and un-annotated: below it they cost
            nothing.  ASL uses 0.05; 0 here, as nothing else is said of it.

    Returns:
        Unreduced loss, shape (N, C).

    Raises:
        ValueError: shapes that do not fit, a negative exponent, or a `clip` outside
            [0, 1).
    """
    if logits.ndim != 2 or target.shape != logits.shape:
        raise ValueError(
            '`logits` and `target` must have the same shape (N, C), got '
            f'{tuple(logits.shape)} and {tuple(target.shape)}'
        )
    for name, gamma in (
        ('gamma_pos', gamma_pos),
        ('gamma_neg', gamma_neg),
        ('gamma_unann', gamma_unann),
    ):
        if not gamma >= 0:
            raise ValueError(f'`{name}` must be at least 0, got {gamma}')
    if not 0 <= clip < 1:
        raise ValueError(f'`clip` must be in [0, 1), got {clip}')
    logits = at_least_float32(logits)
    positive, unannotated = target == 1, target == -1
    if unann_weight is not None:
        if unann_weight.shape not in (logits.shape, logits.shape[1:]):
            raise ValueError(
                f'`unann_weight` must have shape {tuple(logits.shape)} or '
                f'{tuple(logits.shape[1:])}, got {tuple(unann_weight.shape)}'
            )
        unann_weight = unann_weight.to(logits).expand_as(logits)
        # A weight of 0 hides the entry altogether, infinite logits included.
        logits = logits.masked_fill(unannotated & (unann_weight == 0), 0.0)

    # p_t = sigmoid(signed): the probability given to what the target says.
    signed = torch.where(positive, logits, -logits)
    gamma = torch.full_like(logits, gamma_neg)
    gamma = gamma.masked_fill(positive, gamma_pos).masked_fill(unannotated, gamma_unann)
    # log(1 - p_t) = logsigmoid(-signed): finite where 1 - p_t itself underflows, and
    # kept finite for an infinite logit, which an exponent of 0 has to survive.
    log_p, log_other = F.logsigmoid(signed), F.logsigmoid(-signed)
    if clip:
        # Where nothing is left of the p of a negative, so is nothing of the loss.
        shifted = (logits.sigmoid() - clip).clamp(min=0.0)
        tiny = torch.finfo(logits.dtype).tiny
        log_p = torch.where(positive, log_p, torch.log1p(-shifted))
        log_other = torch.where(positive, log_other, shifted.clamp(min=tiny).log())
    focal = torch.exp(gamma * log_other.clamp(min=torch.finfo(logits.dtype).min))
    loss = -(focal.detach() if detach_focal else focal) * log_p
    if unann_weight is None:
        return loss
    return torch.where(unannotated, loss * unann_weight, loss)


def class_aware_ignore(
    scores: Tensor,
    target: Tensor,
    top_k: int,
    prior: Tensor | None = None,
    prior_thr: float | None = None,
    scope: str = 'sample',
    num_rows: Tensor | None = None,
) -> Tensor:
    """Un-annotated entries that are too likely to be positive to be pushed down.

    Args:
        scores: predicted probabilities (or logits, only their order counts), shape
            (N, C).
        target: shape (N, C), int8 of 1, 0 and -1 (un-annotated).
        top_k: how many of the likeliest un-annotated classes to ignore, per row;
            classes that the prior ignores count towards them.
        prior: mean probability of each class over the training set, shape (C,).
        prior_thr: classes with a prior above it are ignored wherever they are
            un-annotated.
        scope: 'sample' takes `top_k` in every row (the paper's text), 'batch' takes
            `top_k * N` over the whole batch (the authors' code).
        num_rows: takes the place of N in scope 'batch', where some rows do not count;
            0-dimensional.

    Returns:
        Shape (N, C), bool, True = ignored; only un-annotated entries are.

    Raises:
        ValueError: unknown scope, negative `top_k`, shapes that do not fit, or only
            one of `prior` and `prior_thr`.
    """
    if scores.ndim != 2 or target.shape != scores.shape:
        raise ValueError(
            '`scores` and `target` must have the same shape (N, C), got '
            f'{tuple(scores.shape)} and {tuple(target.shape)}'
        )
    if scope not in ('sample', 'batch'):
        raise ValueError(f"`scope` must be 'sample' or 'batch', got {scope!r}")
    if top_k < 0:
        raise ValueError(f'`top_k` must be at least 0, got {top_k}')
    if (prior is None) != (prior_thr is None):
        raise ValueError('`prior` and `prior_thr` are given together or not at all')
    unannotated = target == -1
    candidates = scores.detach().masked_fill(~unannotated, -torch.inf)
    if scope == 'batch':
        candidates = candidates.reshape(1, -1)
        per_row, top_k = top_k, top_k * scores.size(0)
    ignored = torch.zeros_like(candidates, dtype=torch.bool)
    likeliest = candidates.topk(min(top_k, candidates.size(1)), dim=1).indices
    chosen = torch.ones_like(likeliest, dtype=torch.bool)
    if scope == 'batch' and num_rows is not None:
        place = torch.arange(likeliest.size(1), device=likeliest.device)
        chosen = (place < per_row * num_rows).expand_as(likeliest)
    ignored = ignored.scatter(1, likeliest, chosen).view_as(unannotated)
    if prior is not None:
        if prior.shape != scores.shape[1:]:
            raise ValueError(
                f'`prior` must have shape ({scores.size(1)},), got {tuple(prior.shape)}'
            )
        ignored = ignored | (prior.to(scores.device) > prior_thr)
    return ignored & unannotated
