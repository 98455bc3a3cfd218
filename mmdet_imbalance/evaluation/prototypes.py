"""Are prototypes evenly spaced, and are class clusters of one size?

The claim of Hayat et al., "Gaussian Affinity for Max-margin Class Imbalanced Learning",
ICCV 2019, https://arxiv.org/abs/1901.07711, in figures that can refute it.

Shapes: N embedded RoIs of dimension D, M prototypes, C foreground classes (background
is index C).
Deviations: the paper shows pictures; the figures are ours.  Points drawn at random are
nearly equidistant in many dimensions, so every spread stands beside theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr


def relative_spread(values: np.ndarray) -> float:
    """Standard deviation over mean (coefficient of variation); nan for under two."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    return float(values.std() / values.mean()) if len(values) > 1 else float('nan')


def class_centres(embeddings: np.ndarray, labels: np.ndarray, num: int) -> np.ndarray:
    """Mean embedding of each class, shape (num, D); nan for a class without RoIs."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    total = np.zeros((num, embeddings.shape[1]))
    np.add.at(total, labels, embeddings)
    count = np.bincount(labels, minlength=num)[:, None]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def cluster_radii(embeddings: np.ndarray, labels: np.ndarray, num: int) -> np.ndarray:
    """Root mean square distance of a class's RoIs from their mean, shape (num,).

    The sum of squares is divided by the number of RoIs less one, so that a class with
    few of them does not look tighter; nan for fewer than two.
    """
    centres = class_centres(embeddings, labels, num)
    squared = np.square(embeddings - centres[labels]).sum(axis=1)
    count = np.bincount(labels, minlength=num)
    total = np.bincount(labels, weights=squared, minlength=num)
    radii = np.sqrt(total / np.maximum(count - 1, 1))
    return np.where(count > 1, radii, np.nan)


def random_spread(num: int, dims: int, seed: int = 0, draws: int = 20) -> float:
    """Mean relative spread of the distances of `num` normal points in `dims`."""
    rng = np.random.default_rng(seed)
    spreads = [
        relative_spread(pdist(rng.standard_normal((num, dims)))) for _ in range(draws)
    ]
    return float(np.mean(spreads))


def principal_axes(embeddings: np.ndarray, num: int = 2) -> tuple[np.ndarray, ...]:
    """Mean (D,), the first principal axes (num, D), their part of the variance (num,).

    Raises:
        ValueError: fewer embeddings or dimensions than axes.
    """
    if min(embeddings.shape) < num:
        raise ValueError(
            f'{num} axes need as many embeddings and dimensions, got shape '
            f'{embeddings.shape}'
        )
    mean = embeddings.mean(axis=0)
    _, values, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    variance = np.square(values)
    return mean, axes[:num], variance[:num] / max(variance.sum(), 1e-300)


@dataclass(eq=False)
class PrototypeReport:
    """Embeddings of annotated boxes, and the prototypes that they are compared with.

    Attributes:
        class_names: C names.
        prototypes: shape (M, D); of a linear classifier, its rows.
        prototype_class: shape (M,), background is C.
        embeddings: shape (N, D).
        labels: shape (N,), background is C.
        train_count: objects of each class in training, (C,); None where unknown.
    """

    class_names: Sequence[str]
    prototypes: np.ndarray
    prototype_class: np.ndarray
    embeddings: np.ndarray
    labels: np.ndarray
    train_count: np.ndarray | None = None

    @property
    def names(self) -> list[str]:
        """Names of the C classes and of the background."""
        return [*self.class_names, 'background']

    def counts(self) -> np.ndarray:
        """RoIs of each class, the background last, (C + 1,)."""
        return np.bincount(self.labels, minlength=len(self.names))

    def radii(self) -> np.ndarray:
        """Radius of each cluster, the background last, (C + 1,)."""
        return cluster_radii(self.embeddings, self.labels, len(self.names))

    def centre_distances(self) -> np.ndarray:
        """Distances of all pairs of foreground clusters."""
        centres = class_centres(self.embeddings, self.labels, len(self.names))[:-1]
        return pdist(centres[np.isfinite(centres).all(axis=1)])

    def figures(self) -> dict[str, float]:
        """The claim in numbers; spreads are standard deviation over mean."""
        foreground = self.prototype_class < len(self.class_names)
        num, dims = self.prototypes.shape
        radii, between = self.radii()[:-1], self.centre_distances()
        found = {
            'prototype distances: relative spread': relative_spread(
                pdist(self.prototypes)
            ),
            'prototype distances: relative spread, foreground only': relative_spread(
                pdist(self.prototypes[foreground])
            ),
            'prototype distances: relative spread of as many random points': (
                random_spread(num, dims)
            ),
            'cluster centres: relative spread of distances': relative_spread(between),
            'cluster radii: relative spread': relative_spread(radii),
            'cluster radii: mean, in mean distances of centres': (
                float(np.nanmean(radii) / between.mean())
                if len(between) and np.isfinite(radii).any()
                else float('nan')
            ),
        }
        if self.train_count is not None:
            known = np.isfinite(radii) & (np.asarray(self.train_count) > 0)
            found['cluster radii: rank correlation with training count'] = (
                float(spearmanr(radii[known], self.train_count[known]).statistic)
                if known.sum() > 2
                else float('nan')
            )
        return found

    def table(self) -> str:
        """Clusters, a row each, the most frequent in training first; then figures."""
        radii, counts = self.radii(), self.counts()
        between = self.centre_distances()
        unit = between.mean() if len(between) else np.nan
        train = self.train_count
        order = list(range(len(self.class_names)))
        if train is not None:
            order.sort(key=lambda c: -train[c])
        lines = [
            '| class | in training | RoIs | radius | in mean distances of centres |',
            '|---|---|---|---|---|',
        ]
        for c in [*order, len(self.class_names)]:
            has_count = train is not None and c < len(self.class_names)
            lines.append(
                f'| {self.names[c]} | {train[c] if has_count else "-"} | {counts[c]} | '
                f'{radii[c]:.2f} | {radii[c] / unit:.2f} |'
            )
        lines.append('')
        lines += [f'{name}: {value:.3f}' for name, value in self.figures().items()]
        return '\n'.join(lines)
