"""Softmax, focal and affinity on digits of which a part has a wrong label.

The counterpart, in minutes on two cores, of the second claim of Hayat et al., "Gaussian
Affinity for Max-margin Class Imbalanced Learning", ICCV 2019: prototypes that are
spread evenly bear label noise better.  Uses the pure functions only.

    python -m benchmarks.classification.label_noise --seeds 5

A noisy label is another class, each as likely.  The test set is clean and balanced.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.classification.affinity import AffinityClassifier
from benchmarks.classification.digits import (
    NUM_CLASSES,
    Digits,
    average_precision,
    classifier,
    cut,
    fit,
    load,
    long_tailed_sizes,
    options,
    print_head,
    print_row,
    split,
)
from benchmarks.classification.long_tailed import differences
from mmdet_imbalance.functional import class_balanced_loss

METHODS = ('softmax', 'sigmoid', 'focal 2', 'affinity 1', 'affinity 5')


def noisy(labels: Tensor, rate: float, seed: int) -> Tensor:
    """Labels of which each is another class with probability `rate`."""
    generator = torch.Generator().manual_seed(seed)
    is_wrong = torch.rand(len(labels), generator=generator) < rate
    shift = torch.randint(1, NUM_CLASSES, (len(labels),), generator=generator)
    return torch.where(is_wrong, (labels + shift) % NUM_CLASSES, labels)


def trained(train: Digits, method: str, iterations: int, seed: int) -> torch.nn.Module:
    """Classifier whose outputs order the images by class."""
    kind, _, number = method.partition(' ')
    num_pixels = train.pixels.size(1)
    torch.manual_seed(seed)
    no_decay = ()
    if kind == 'affinity':
        model = AffinityClassifier(num_pixels, int(number))
        loss_of = model.loss
    elif kind == 'softmax':
        model = classifier(num_pixels, NUM_CLASSES)
        loss_of = F.cross_entropy
    else:
        model = classifier(num_pixels, NUM_CLASSES)
        torch.nn.init.constant_(model[-1].bias, -math.log(NUM_CLASSES - 1))
        no_decay = (model[-1].bias,)
        even, gamma = torch.ones(NUM_CLASSES), float(number or 0)

        def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
            return class_balanced_loss(logits, labels, even, kind, gamma).mean()

    fit(model, train, loss_of, iterations, seed, no_decay=no_decay)
    return model


@torch.no_grad()
def quality(model: torch.nn.Module, method: str, test: Digits) -> tuple[float, float]:
    """Accuracy, and mean AP over the classes, in percent."""
    scores = model(test.pixels)
    if method == 'softmax':
        # Logits of different images have no common origin.
        scores = scores.softmax(dim=1)
    truth = F.one_hot(test.labels, NUM_CLASSES).bool()
    hit = (scores.argmax(dim=1) == test.labels).double().mean()
    return 100.0 * hit.item(), 100.0 * average_precision(scores, truth).mean().item()


def main(argv=None) -> None:
    """Print the tables."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument('--rates', type=float, nargs='+', default=[0, 0.1, 0.2, 0.4])
    parser.add_argument(
        '--factor', type=float, default=1, help='imbalance factor of the training set'
    )
    args = parser.parse_args(argv)
    digits, test_per_class = load(args)
    found = {(method, k): [] for method in METHODS for k in range(2)}
    for rate in args.rates:
        for method in METHODS:
            cells = []
            for seed in range(args.seeds):
                train, test = split(digits, test_per_class, seed)
                num_max = int(train.labels.bincount(minlength=NUM_CLASSES).min())
                train = cut(train, long_tailed_sizes(num_max, args.factor), seed)
                train = Digits(train.pixels, noisy(train.labels, rate, seed))
                model = trained(train, method, args.iterations, seed)
                cells.append(quality(model, method, test))
            for k in range(2):
                found[method, k].append([cell[k] for cell in cells])
    heads = [f'noise {rate:g}' for rate in args.rates]
    for k, name in enumerate(('accuracy', 'mean AP')):
        print(
            f'{name} in percent, imbalance factor {args.factor:g}, mean of '
            f'{args.seeds} seeds and the half-width of its 95 % interval'
        )
        print_head('method', *heads)
        for method in METHODS:
            print_row(method, found[method, k])
        print('\nless softmax, same seeds; * where the interval leaves out 0')
        print_head('method', *heads)
        for method in METHODS[1:]:
            print_row(method, differences(found[method, k], found['softmax', k]), '+')
        print()


if __name__ == '__main__':
    main()
