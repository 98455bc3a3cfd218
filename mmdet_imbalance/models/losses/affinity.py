"""Gaussian affinity in a box head: the predictor with prototypes and its loss.

Hayat et al., "Gaussian Affinity for Max-margin Class Imbalanced Learning", ICCV
2019, https://arxiv.org/abs/1901.07711; the equations are in `core/affinity.py`.

Shapes: N RoIs, D dimensions of the embedding, C foreground classes, M prototypes.

Deviations, all because the paper classifies images and never had a background:

* Features are projected to `embed_dims` and layer-normalised, so that squared
  distances are about 2 D whatever the head feeds in; `sigma` defaults to D.  The
  paper's widths (5 to 20) would underflow at D = 1024.
* The background has prototypes of its own, by default more than a class.
* The diversity term is averaged over the pairs and measured in units of sigma^2, so
  that its weight does not depend on the number of classes.
"""

import math

import torch
from torch import Tensor, nn

from mmdet_imbalance.core.affinity import (
    best_of_class,
    max_margin_rows,
    prototype_diversity,
    squared_distances,
)
from mmdet_imbalance.core.precision import full_precision
from mmdet_imbalance.models.losses.base import (
    ClassificationLoss,
    Target,
    primary_labels,
)
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class AffinityPredictor(nn.Module):
    """Similarities of a RoI to the classes, for a box head's `cls_predictor_cfg`.

    The output has one column per class, one for the background, and a last one that
    holds the diversity of the prototypes, the same in each row: so the term reaches
    `AffinityLoss` through the graph, and nothing is stored between calls.

    Args:
        in_features: dimension of the RoI feature; given by the box head.
        out_features: C + 2; given by the box head, which asks `AffinityLoss`.
        embed_dims: dimension D of the embedding.
        num_prototypes: prototypes of a foreground class.
        num_bg_prototypes: prototypes of the background.
        sigma: width of the Gaussian in squared feature units; None is D.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        embed_dims: int = 128,
        num_prototypes: int = 1,
        num_bg_prototypes: int = 5,
        sigma: float | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ('out_features', out_features, 3),
            ('embed_dims', embed_dims, 2),
            ('num_prototypes', num_prototypes, 1),
            ('num_bg_prototypes', num_bg_prototypes, 1),
        ):
            if value < least:
                raise ValueError(f'`{name}` must be at least {least}, got {value}')
        self.sigma = float(embed_dims if sigma is None else sigma)
        if not self.sigma > 0:
            raise ValueError(f'`sigma` must be positive, got {sigma}')
        self.num_columns = out_features - 1
        owners = torch.arange(self.num_columns - 1).repeat_interleave(num_prototypes)
        owners = torch.cat(
            [owners, owners.new_full((num_bg_prototypes,), self.num_columns - 1)]
        )
        self.register_buffer('prototype_class', owners, persistent=False)
        self.embedding = nn.Linear(in_features, embed_dims)
        self.norm = nn.LayerNorm(embed_dims, elementwise_affine=False)
        self.prototypes = nn.Parameter(torch.randn(len(owners), embed_dims))

    def embed(self, x: Tensor) -> Tensor:
        """Normalised embedding of RoI features, (N, in_features) to (N, D)."""
        return self.norm(self.embedding(x).float())

    def forward(self, x: Tensor) -> Tensor:
        """Similarities in [0, 1] and the diversity, shape (N, C + 2)."""
        prototypes = self.prototypes.float()
        embedding = self.embed(x)
        # Half precision would lose the distance of a feature near its prototype.
        with full_precision(embedding):
            distance = squared_distances(embedding, prototypes)
        similarity = torch.exp(-distance / self.sigma)
        similarity = best_of_class(similarity, self.prototype_class, self.num_columns)
        num_pairs = len(prototypes) * (len(prototypes) - 1) / 2
        diversity = prototype_diversity(prototypes) / (num_pairs * self.sigma**2)
        return torch.cat([similarity, diversity.expand(len(x), 1)], dim=1)


@MODELS.register_module()
class AffinityLoss(ClassificationLoss):
    """Max-margin loss on the similarities of `AffinityPredictor`, plus diversity.

    Scores at test time are a softmax over the similarities with the temperature at
    which a RoI that meets the margin exactly, against every other class, scores 0.9:
    similarities as such have no scale that score thresholds and NMS could share.

    Args:
        num_classes: number C of foreground classes.
        margin: lead of the right class, in similarity; the paper uses .43 to .75.
        diversity_weight: weight of the diversity term.  Each row carries the term, so
            it counts once where `avg_factor` is the number of rows, as in box heads.
        **kwargs: arguments of `ClassificationLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        margin: float = 0.5,
        diversity_weight: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        if not 0 < margin <= 1:
            raise ValueError(f'`margin` must be in (0, 1], got {margin}')
        self.margin = margin
        self.diversity_weight = diversity_weight

    @property
    def cls_channels(self) -> int:
        """A column per class, the background, and the diversity."""
        return self.num_classes + 2

    @property
    def temperature(self) -> float:
        """Temperature of the test-time softmax."""
        return self.margin / math.log(9.0 * self.num_classes)

    def row_loss(self, logits: Tensor, target: Target) -> Tensor:
        """Hinge and diversity of each row, shape (N,)."""
        labels = primary_labels(target, self.num_classes)
        if self.diversity_weight == 0:
            return max_margin_rows(logits[:, :-1], labels, self.margin)
        return max_margin_rows(logits, labels, self.margin, self.diversity_weight)

    def scores(self, logits: Tensor) -> Tensor:
        """Calibrated similarities, shape (N, C + 1)."""
        return (logits[:, :-1] / self.temperature).softmax(dim=1)
