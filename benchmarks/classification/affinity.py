"""Affinity against softmax on digits whose classes are cut to a few images.

The counterpart, in minutes on two cores, of the reduced-class protocol of Hayat et al.,
"Gaussian Affinity for Max-margin Class Imbalanced Learning", ICCV 2019: some classes
keep a small fraction of their images.  Uses the pure functions only.

    python -m benchmarks.classification.affinity --seeds 5
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.classification.digits import (
    NUM_CLASSES,
    Digits,
    classifier,
    cut,
    fit,
    load,
    options,
    print_head,
    print_row,
    split,
)
from benchmarks.classification.long_tailed import differences
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

    def forward(self, x: Tensor) -> Tensor:
        """Similarity to each class, shape (N, C)."""
        return gaussian_affinity(
            self.norm(self.embedding(x)), self.prototypes, self.owners, EMBED_DIMS
        )

    def loss(self, similarity: Tensor, labels: Tensor, margin: float = 0.5) -> Tensor:
        """Mean hinge and the diversity over pairs, in units of the squared width."""
        pairs = len(self.prototypes) * (len(self.prototypes) - 1) / 2
        diversity = prototype_diversity(self.prototypes) / (pairs * EMBED_DIMS**2)
        return max_margin_affinity_loss(similarity, labels, margin).mean() + diversity


def macro_f1(predicted: Tensor, labels: Tensor) -> float:
    """Mean over the classes of the F1 score, in percent."""
    hit = F.one_hot(labels[predicted == labels], NUM_CLASSES).sum(0)
    total = F.one_hot(predicted, NUM_CLASSES).sum(0) + F.one_hot(
        labels, NUM_CLASSES
    ).sum(0)
    return 100.0 * (2 * hit / total.clamp(min=1)).mean().item()


def score(
    digits: Digits,
    method: str,
    fraction: float,
    seed: int,
    iterations: int,
    test_per_class: int,
) -> float:
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
    """Print the tables."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument(
        '--fractions', type=float, nargs='+', default=[1, 0.1, 0.05, 0.02]
    )
    args = parser.parse_args(argv)
    digits, test_per_class = load(args)
    print(
        f'macro-F1 in percent, mean of {args.seeds} seeds and the half-width of its '
        '95 % interval; five classes keep the fraction'
    )
    heads = [f'fraction {f:g}' for f in args.fractions]
    print_head('method', *heads)
    found = {}
    for method in ('softmax', 'affinity 1', 'affinity 3', 'affinity 5'):
        found[method] = [
            [
                score(digits, method, fraction, s, args.iterations, test_per_class)
                for s in range(args.seeds)
            ]
            for fraction in args.fractions
        ]
        print_row(method, found[method])
    print('\nless softmax, same seeds; * where the interval leaves out 0')
    print_head('method', *heads)
    for method in ('affinity 1', 'affinity 3', 'affinity 5'):
        print_row(method, differences(found[method], found['softmax']), '+')


if __name__ == '__main__':
    main()
