"""Time and memory of every classification loss beside cross-entropy and the host's.

    python benchmarks/bench_losses.py [--rows 2048] [--classes 1203] [--device cuda]

prints one table from one run. Forward and backward, at the size of a box head on LVIS.

On a CPU the time is that of the process with one thread, which other jobs disturb
least; the losses alternate in shuffled order, and the best of the rounds is taken.
"""

import argparse
import os
import random
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.losses import EQLV2Loss, FocalLoss
from mmdet.models.losses import SeesawLoss as HostSeesawLoss
from mmengine.registry import init_default_scope

from mmdet_imbalance.core.binary_terms import softplus
from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.models.losses.base import ClassificationLoss
from mmdet_imbalance.registry import MODELS

#: Fraction of positives of a box head.
FOREGROUND = 0.25
BCE = 'F.binary_cross_entropy_with_logits'
NOTE = """
/ CE, / BCE: ratio to F.cross_entropy, and to binary cross-entropy with the target at
hand, which is what a sigmoid loss has to do at least.
matrices: peak memory in units of the logits, their gradient included (F.cross_entropy
itself keeps the log-softmax beside it).

What bounds the losses that take more than 1.5 times the cross-entropy of plain labels:

* focal losses: where a softmax has one exponential for each of the N x C terms and one
  logarithm a row, they have a logarithm a term, because each is weighed by itself. The
  first line of the table is that softplus and the sigmoid alone.
* sigmoid losses without a focus: a row's sum of logarithms is the logarithm of a
  product, so one of 64 is left; two exponentials a term remain, and no other way to the
  same digits is known to us.
* GHM: the same, and two passes: a weight depends on the bins of all terms.
* equalization: the same; the weight is of the class.
* a hierarchy: a softmax label with two ancestors is three cross-entropies, in positive
  rows; to find the relatives of the labels, a (P, C) matrix is searched.
* label sets: besides, the (P, C) sets are searched for labels.
* drawn negatives (federated): a mask of all N x C terms.
* class-aware selective: the likeliest classes of a row are searched, and negative and
  un-annotated terms have powers of their own."""


def class_stats(num_classes: int, has_hierarchy: bool) -> ClassStats:
    """Zipf counts; with a hierarchy, ten parents of ten children each, two levels."""
    count = (10_000 / np.arange(1, num_classes + 1)).astype(np.int64) + 2
    ancestors = np.eye(num_classes, dtype=bool)
    if has_hierarchy:
        for label in range(num_classes):
            ancestors[label, label // 10] = ancestors[label, label // 100] = True
            ancestors[label, 0] = True
    pairs = np.arange(num_classes - 1)
    return ClassStats(
        class_names=[f'class {k}' for k in range(num_classes)],
        img_count=count,
        instance_count=count,
        num_images=int(count.sum()),
        pair_rows=pairs,
        pair_cols=pairs + 1,
        pair_values=np.ones(num_classes - 1, dtype=np.int64),
        ancestor_matrix=ancestors,
    )


def cases(num_rows: int, num_classes: int, device: str) -> dict[str, tuple]:
    """Name to (loss, channels, target)."""
    gen = torch.Generator().manual_seed(0)
    every = torch.randint(0, num_classes, (num_rows,), generator=gen)
    is_fg = torch.rand(num_rows, generator=gen) < FOREGROUND
    labels = every.where(is_fg, num_classes).to(device)
    every = every.to(device)
    flat, tree = (class_stats(num_classes, has) for has in (False, True))
    pos_inds = (labels < num_classes).nonzero().squeeze(1)
    sets = torch.as_tensor(tree.ancestor_matrix).to(device)[labels[pos_inds]]
    multi = MultiLabelTarget(labels, pos_inds, sets)

    def ce(logits, target):
        return F.cross_entropy(logits, target)

    one_hot = F.one_hot(labels, num_classes + 1)[:, :-1].float()
    bce = F.binary_cross_entropy_with_logits

    found = {
        'F.cross_entropy': (ce, num_classes + 1, labels),
        BCE: (bce, num_classes, one_hot),
        'host FocalLoss': (FocalLoss(use_sigmoid=True), num_classes, labels),
        'host SeesawLoss': (
            HostSeesawLoss(num_classes=num_classes),
            num_classes + 2,
            labels,
        ),
        'host EQLV2Loss': (EQLV2Loss(num_classes=num_classes), num_classes + 1, labels),
    }
    for name, cls in sorted(MODELS.module_dict.items()):
        if not issubclass(cls, ClassificationLoss):
            continue
        loss = cls(num_classes=num_classes, class_stats=flat)
        found[name] = (loss, loss.cls_channels, labels)
        if loss.target_kind == 'multi_label':
            loss = cls(num_classes=num_classes, class_stats=tree)
            found[f'{name}, tree'] = (loss, loss.cls_channels, labels)
            found[f'{name}, label sets'] = (loss, loss.cls_channels, multi)
    loss, channels, _ = found['ConcurrentSoftmaxLoss']
    found['ConcurrentSoftmaxLoss, all rows positive'] = (loss, channels, every)
    for loss, _, _ in found.values():
        if isinstance(loss, torch.nn.Module):
            loss.to(device)
    return found


def step(loss: Callable, logits: torch.Tensor, target) -> None:
    """One forward and backward."""
    logits.grad = None
    value = loss(logits, target)
    (sum(value.values()) if isinstance(value, dict) else value).backward()


def seconds(loss: Callable, logits: torch.Tensor, target) -> float:
    """Time of a step: of the device, or of this process on a CPU."""
    if logits.device.type != 'cpu':
        torch.cuda.synchronize()
        start = time.perf_counter()
        step(loss, logits, target)
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    step(loss, logits, target)
    return time.process_time() - start


def peak_matrices(loss: Callable, logits: torch.Tensor, target) -> float:
    """Most memory alive at once in a step, in matrices of the size of the logits.

    The gradient of the logits, which every loss must make, is among them.
    """
    size = logits.numel() * logits.element_size()
    logits.grad = None
    if logits.device.type != 'cpu':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(loss, logits, target)
        return (torch.cuda.max_memory_allocated() - before) / size
    with torch.profiler.profile(profile_memory=True) as profile:
        step(loss, logits, target)
    events = profile.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == '[memory]']
    live = np.cumsum([nbytes for _, nbytes in sorted(changes)])
    return float(live.max()) / size


def functions_alone(logits: torch.Tensor) -> float:
    """Time of a softplus and a sigmoid of every term, in blocks that fit the cache."""
    blocks = logits.detach().split(max(2**18 // logits.size(1), 1))
    start = time.process_time() if logits.device.type == 'cpu' else time.perf_counter()
    for block in blocks:
        softplus(block)
        torch.sigmoid(block)
    if logits.device.type != 'cpu':
        torch.cuda.synchronize()
        return time.perf_counter() - start
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    # Else the profiler reports every start and stop.
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rows', type=int, default=2048)
    parser.add_argument('--classes', type=int, default=1203)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--only', default='', help='losses whose name contains this')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    init_default_scope('mmdet')
    found = cases(args.rows, args.classes, args.device)
    found = {
        name: case
        for name, case in found.items()
        if args.only.lower() in name.lower() or name in ('F.cross_entropy', BCE)
    }
    times: dict[str, list[float]] = {name: [] for name in found}
    gen = torch.Generator().manual_seed(1)
    inputs = {
        channels: torch.randn(args.rows, channels, generator=gen).to(args.device)
        for channels in {case[1] for case in found.values()}
    }
    inputs = {channels: logits.requires_grad_() for channels, logits in inputs.items()}
    order = random.Random(0)
    alone = []
    for round_ in range(args.rounds + 2):
        for name in order.sample(list(found), len(found)):
            loss, channels, target = found[name]
            time_ = seconds(loss, inputs[channels], target)
            if round_ >= 2:
                times[name].append(time_)
        alone.append(functions_alone(inputs[args.classes]))
    best = {name: min(each) for name, each in times.items()}
    print(
        f'{args.rows} rows x {args.classes} classes, {FOREGROUND:.0%} positive, '
        f'forward + backward, {args.device}, {args.threads} thread(s), torch '
        f'{torch.__version__}, best of {args.rounds}\n'
    )
    width = max(map(len, found))

    def line(name: str, time_: float, peak: str) -> str:
        ratios = [time_ / best[other] for other in ('F.cross_entropy', BCE)]
        return (
            f'{name:{width}}  {1e3 * time_:7.2f}  {ratios[0]:6.2f}  {ratios[1]:6.2f}  '
            f'{peak:>8}'
        )

    print(f'{"loss":{width}}  {"ms":>7}  {"/ CE":>6}  {"/ BCE":>6}  {"matrices":>8}')
    print(line('(softplus and sigmoid alone)', min(alone), ''))
    for name, (loss, channels, target) in found.items():
        peak = peak_matrices(loss, inputs[channels], target)
        print(line(name, best[name], f'{peak:.2f}'))
    print(NOTE)


if __name__ == '__main__':
    main()
