"""Gaussian affinity: similarity to class prototypes, max-margin loss, diversity.

Hayat et al., "Gaussian Affinity for Max-margin Class Imbalanced Learning", ICCV
2019, https://arxiv.org/abs/1901.07711:

    d(f, w_j) = max_t exp(-||f - w_jt||^2 / sigma)
    L_mm      = sum_{j != y} max(0, margin + d(f, w_j) - d(f, w_y))
    R(w)      = sum_{j < k} (||w_j - w_k||^2 - mu)^2, mu the mean over those pairs

Shapes: N features of dimension D, M prototypes (any number a class), K classes that
own a prototype.  Deviations from the paper: classes may own different numbers of
prototypes, and the background is a class with prototypes of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_imbalance.core.blocks import row_blocks
from mmdet_imbalance.core.closed_gradient import with_closed_gradient
from mmdet_imbalance.core.label_sets import check_integers, check_labels
from mmdet_imbalance.core.precision import at_least_float32


def squared_distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Squared Euclidean distances, shape (N, M).

    One matrix product instead of an (N, M, D) difference.  Distances do not change
    when both sides move, so everything is centred on the prototypes first: the
    product would otherwise cancel badly for features far from the origin.  What is left
    of it is about 1e-6 of the squared norms: little for normalised features.
    """
    with torch.no_grad():
        center = prototypes.mean(dim=0, keepdim=True)
    features, prototypes = features - center, prototypes - center
    squared = (
        features.square().sum(dim=1, keepdim=True)
        + prototypes.square().sum(dim=1)
        - 2.0 * features @ prototypes.T
    )
    return squared.clamp(min=0.0)


def gaussian_affinity(
    features: Tensor, prototypes: Tensor, prototype_class: Tensor, sigma: float
) -> Tensor:
    """Similarity of each feature to each class, the best prototype of a class counts.

    Args:
        features: shape (N, D).
        prototypes: shape (M, D).
        prototype_class: class of each prototype, shape (M,), int; the background is
            class C where it owns prototypes.
        sigma: width, in squared feature units; the squared distance of unit-variance
            features grows with D (about 2 D), so `sigma` has to grow with it.

    Returns:
        Similarities in [0, 1], shape (N, K): one column per class that owns a
        prototype, in class order.

    Raises:
        ValueError: shapes that do not fit, or a `sigma` that is not positive.
    """
    if features.ndim != 2 or prototypes.ndim != 2:
        raise ValueError(
            '`features` and `prototypes` must have shapes (N, D) and (M, D), got '
            f'{tuple(features.shape)} and {tuple(prototypes.shape)}'
        )
    if features.size(1) != prototypes.size(1):
        raise ValueError(
            f'`features` have dimension {features.size(1)}, `prototypes` '
            f'{prototypes.size(1)}'
        )
    if prototype_class.shape != prototypes.shape[:1]:
        raise ValueError(
            f'`prototype_class` must have shape ({prototypes.size(0)},), got '
            f'{tuple(prototype_class.shape)}'
        )
    if not sigma > 0:
        raise ValueError(f'`sigma` must be positive, got {sigma}')
    owners, column = prototype_class.unique(return_inverse=True)
    # Differences, not a matrix product: features of any scale come in here, and a
    # feature on its prototype has to be as similar as 1.
    distance = torch.cdist(
        at_least_float32(features),
        at_least_float32(prototypes),
        compute_mode='donot_use_mm_for_euclid_dist',
    )
    similarity = torch.exp(-distance.square() / sigma)
    return best_of_class(similarity, column, owners.numel())


def best_of_class(similarity: Tensor, column: Tensor, num_columns: int) -> Tensor:
    """Maximum over the prototypes of a class.

    Args:
        similarity: shape (N, M).
        column: output column of each prototype, shape (M,), int64; each column owns
            at least one prototype.
        num_columns: K.

    Returns:
        Shape (N, K).
    """
    best = similarity.new_zeros(similarity.size(0), num_columns)
    return best.scatter_reduce(
        1, column.expand_as(similarity), similarity, 'amax', include_self=False
    )


def max_margin_affinity_loss(
    similarity: Tensor, labels: Tensor, margin: float
) -> Tensor:
    """Hinge on the similarity of every wrong class, summed over them.

    Args:
        similarity: shape (N, C), a column per class; where the background is one of
            the classes it has a column of its own.
        labels: column of the right class, shape (N,), values in [0, C).
        margin: by how much the right class must lead, in units of similarity.

    Returns:
        Shape (N,), float32 (float64 for float64 similarities). Differentiable once.

    Raises:
        ValueError: shapes that do not fit, or a label that is no column.
    """
    if similarity.ndim != 2 or labels.shape != similarity.shape[:1]:
        raise ValueError(
            '`similarity` and `labels` must have shapes (N, C) and (N,), got '
            f'{tuple(similarity.shape)} and {tuple(labels.shape)}'
        )
    check_integers(labels)
    check_labels(labels, similarity.size(1) - 1)
    return max_margin_rows(similarity, labels, margin)


def max_margin_rows(
    similarity: Tensor, labels: Tensor, margin: float, extra_weight: float = 0.0
) -> Tensor:
    """`max_margin_affinity_loss` beside a term that a row brings along, unchecked.

    A slice of the columns would cost a matrix more in the backward pass.

    Args:
        similarity: shape (N, C), or (N, C + 1) with the term in the last column.
        labels: shape (N,), values in [0, C).
        margin: in units of similarity.
        extra_weight: weight of the term; 0 where there is none.

    Returns:
        Shape (N,).
    """
    return _hinge_rows(
        at_least_float32(similarity), labels.long(), float(margin), float(extra_weight)
    )[0]


@with_closed_gradient('mmdet_imbalance::affinity_hinge')
def _hinge_rows(
    similarity: Tensor, labels: Tensor, margin: float, extra_weight: float
) -> tuple[Tensor, Tensor]:
    """Loss (N,) and its gradient (N, C), or (N, C + 1) with a loss of its own."""
    num_columns = similarity.size(1) - (extra_weight != 0)
    loss = similarity.new_empty(len(similarity))
    grad = torch.empty_like(similarity)
    for rows in row_blocks(*similarity.shape, similarity.device):
        column = labels[rows].unsqueeze(1)
        hinge = similarity[rows, :num_columns]
        hinge = (hinge - hinge.gather(1, column)).add_(margin).clamp_(min=0.0)
        # The right class meets itself with exactly `margin`: leave that term out.
        hinge.scatter_(1, column, 0.0)
        loss[rows] = hinge.sum(dim=1)
        slope = torch.sign(hinge, out=grad[rows, :num_columns])
        slope.scatter_(1, column, -slope.sum(dim=1, keepdim=True))
    if extra_weight != 0:
        loss.add_(similarity[:, -1], alpha=extra_weight)
        grad[:, -1] = extra_weight
    return loss, grad


def prototype_diversity(prototypes: Tensor) -> Tensor:
    """Spread R(w) of the squared distances of all pairs of prototypes.

    Zero exactly when the prototypes are equidistant, which needs M <= D + 1.  Each
    pair counts once, no prototype is paired with itself.

    Args:
        prototypes: shape (M, D).

    Returns:
        Scalar; 0 (on the graph) for fewer than two prototypes.
    """
    if prototypes.ndim != 2:
        raise ValueError(
            f'`prototypes` must have shape (M, D), got {tuple(prototypes.shape)}'
        )
    prototypes = at_least_float32(prototypes)
    if prototypes.size(0) < 2:
        return prototypes.sum() * 0.0
    squared = F.pdist(prototypes).square()
    return (squared - squared.mean()).square().sum()
