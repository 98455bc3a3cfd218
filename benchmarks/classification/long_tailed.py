"""Class-balanced losses on long-tailed digits: loss x beta x imbalance factor.

The counterpart, in minutes on two cores, of the table of Cui et al., "Class-Balanced
Loss Based on Effective Number of Samples", CVPR 2019.  Uses the pure functions only.

    python -m benchmarks.classification.long_tailed --seeds 5

The second table compares each beta with beta 0 seed by seed: a pair shares cut, initial
weights and minibatches, so its differences vary less than the errors.
"""

import math

import torch

from benchmarks.classification.digits import (
    NUM_CLASSES,
    Digits,
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
from mmdet_imbalance.functional import class_balanced_loss, effective_num_weights

#: name -> kind of the loss, focusing exponent
LOSSES = {
    'softmax': ('softmax', 0.0),
    'sigmoid': ('sigmoid', 0.0),
    'focal 0.5': ('focal', 0.5),
    'focal 1': ('focal', 1.0),
    'focal 2': ('focal', 2.0),
}
BETAS = (0.0, 0.9, 0.99, 0.999, 0.9999)


def error_rate(
    digits: Digits,
    loss: str,
    beta: float,
    factor: float,
    seed: int,
    iterations: int,
    test_per_class: int,
) -> float:
    """Test error in percent, on a balanced test set."""
    kind, gamma = LOSSES[loss]
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
    """Print the tables."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument('--factors', type=float, nargs='+', default=[10, 50, 100, 200])
    parser.add_argument('--losses', nargs='+', default=list(LOSSES), choices=LOSSES)
    parser.add_argument('--betas', type=float, nargs='+', default=BETAS)
    args = parser.parse_args(argv)
    digits, test_per_class = load(args)
    heads = [f'factor {f:g}' for f in args.factors]
    print(
        f'test error in percent, mean of {args.seeds} seeds and the half-width of its '
        '95 % interval'
    )
    print_head('loss', 'beta', *heads)
    errors = {}
    for loss in args.losses:
        for beta in args.betas:
            errors[loss, beta] = [
                [
                    error_rate(
                        digits,
                        loss,
                        beta,
                        factor,
                        seed,
                        args.iterations,
                        test_per_class,
                    )
                    for seed in range(args.seeds)
                ]
                for factor in args.factors
            ]
            print_row(f'{loss} | {beta:g}', errors[loss, beta])
    print('\nerror less that of beta 0, same seeds; * where the interval leaves out 0')
    print_head('loss', 'beta', *heads)
    for (loss, beta), cells in errors.items():
        if beta != 0 and (loss, 0.0) in errors:
            print_row(f'{loss} | {beta:g}', differences(cells, errors[loss, 0.0]), '+')
    plain = {loss: cells for (loss, beta), cells in errors.items() if beta == 0}
    if 'softmax' not in plain:
        return
    softmax = plain.pop('softmax')
    print('\nerror less that of softmax, both at beta 0, same seeds')
    print_head('loss', *heads)
    for loss, cells in plain.items():
        print_row(loss, differences(cells, softmax), '+')


def differences(cells, others) -> list[list[float]]:
    """Differences of two rows of cells, seed by seed."""
    return [
        [a - b for a, b in zip(cell, other, strict=True)]
        for cell, other in zip(cells, others, strict=True)
    ]


if __name__ == '__main__':
    main()
