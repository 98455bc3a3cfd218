"""Time of GHM-C and GHM-R beside the host's and the plain losses.

    python benchmarks/bench_ghm.py [--rows 100000] [--classes 80] [--device cuda]

prints one table from one run, forward and backward. On a CPU the time is that of the
process with one thread, which other jobs disturb least; the order of the losses is
shuffled in each round and the best round is taken. The losses are compared: a fast loss
that computes something else would be no gain.
"""

import argparse
import random

import torch
import torch.nn.functional as F
from clock import clock
from mmdet.models.losses import GHMC, GHMR

from mmdet_imbalance.functional import ghm_c_loss, ghm_r_loss
from mmdet_imbalance.models.losses import GHMClassificationLoss


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=100_000)
    parser.add_argument('--classes', type=int, default=80)
    parser.add_argument('--positive', type=float, default=0.01)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--device', default='cpu')
    return parser.parse_args()


def classification_cases(num, num_classes, positive, device):
    """Name to a function from logits to the loss; the logits."""
    generator = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(num, num_classes, generator=generator) - 3
    labels = torch.randint(num_classes, (num,), generator=generator)
    is_positive = torch.rand(num, generator=generator) < positive
    labels = labels.where(is_positive, num_classes).to(device)
    one_hot = F.one_hot(labels, num_classes + 1)[:, :-1].float()
    weight = torch.ones(num, device=device)
    host = GHMC(bins=30, momentum=0).to(device)
    shell = GHMClassificationLoss(num_classes, momentum=0.0).to(device)
    return logits.to(device), {
        'plain BCE': lambda z: F.binary_cross_entropy_with_logits(z, one_hot),
        'ghm_c_loss': lambda z: ghm_c_loss(z, one_hot)[0],
        'GHMClassificationLoss (labels)': lambda z: shell(z, labels, weight),
        'host GHMC (labels)': lambda z: host(z, labels, weight),
    }


def regression_cases(num, device):
    """The same for encoded boxes."""
    generator = torch.Generator().manual_seed(0)
    pred = 0.1 * torch.randn(num, 4, generator=generator).to(device)
    target, weight = torch.zeros_like(pred), torch.ones_like(pred)
    host = GHMR(bins=10, momentum=0).to(device)
    return pred, {
        'plain smooth L1': lambda x: F.smooth_l1_loss(x, target),
        'ghm_r_loss': lambda x: ghm_r_loss(x, target)[0],
        'host GHMR': lambda x: host(x, target, weight),
    }


def measure(data, cases, rounds, device):
    """Least seconds of a forward and backward pass by name, and the losses."""
    seconds, values = {name: [] for name in cases}, {}
    order = list(cases)
    for round_ in range(rounds + 1):
        random.Random(round_).shuffle(order)
        for name in order:
            leaf = data.clone().requires_grad_()
            start = clock(device)
            loss = cases[name](leaf)
            loss.backward()
            spent = clock(device) - start
            if round_:  # The first round warms up.
                seconds[name].append(spent)
            values[name] = loss.item()
    return {name: min(each) for name, each in seconds.items()}, values


def report(title, seconds, values, plain, host):
    print(f'\n{title}')
    print(f'{"":32}{"ms":>10}{"x plain":>10}{"host / it":>11}{"loss":>12}')
    for name, each in seconds.items():
        print(
            f'{name:32}{1e3 * each:10.1f}{each / seconds[plain]:10.2f}'
            f'{seconds[host] / each:11.1f}{values[name]:12.6f}'
        )
    for name in seconds:
        if name != plain and abs(values[name] / values[host] - 1) > 1e-4:
            raise SystemExit(f'{name} and {host} do not agree')


def main():
    args = parse_args()
    if args.device == 'cpu':
        torch.set_num_threads(1)
    data, cases = classification_cases(
        args.rows, args.classes, args.positive, args.device
    )
    seconds, values = measure(data, cases, args.rounds, args.device)
    report(
        f'GHM-C, {args.rows} x {args.classes}, {args.device}',
        seconds,
        values,
        'plain BCE',
        'host GHMC (labels)',
    )
    data, cases = regression_cases(args.rows, args.device)
    seconds, values = measure(data, cases, args.rounds, args.device)
    report(
        f'GHM-R, {args.rows} x 4, {args.device}',
        seconds,
        values,
        'plain smooth L1',
        'host GHMR',
    )


if __name__ == '__main__':
    main()
