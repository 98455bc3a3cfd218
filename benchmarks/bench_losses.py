"""Time and memory of every classification loss beside cross-entropy and the host's.

    python benchmarks/bench_losses.py [--rows 2048] [--classes 1203] [--device cuda]

prints one table from one run. Forward and backward, at the size of a box head on LVIS.

What bounds the losses that take more than 1.5 times the cross-entropy of plain labels:

* sigmoid losses: softplus is an exponential and a logarithm for each of the N x C
  terms, where a softmax has one exponential; torch's own binary cross-entropy takes
  longer. The focal factor adds a few products a term.
* a hierarchy: a label with two ancestors is three cross-entropies, in positive rows.
* label sets: besides, the (P, C) sets are searched for labels and their relatives.
* seesaw and equalization: weights of all N x C terms depend on the batch; no softmax
  or binary cross-entropy kernel takes them, so they are passes of their own.

On a CPU the time is that of the process with one thread, which other jobs disturb
least; the order of the losses is shuffled in each round and the median is taken.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.losses import EQLV2Loss, FocalLoss
from mmdet.models.losses import SeesawLoss as HostSeesawLoss
from mmengine.registry import init_default_scope

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.models.losses.base import ClassificationLoss
from mmdet_imbalance.registry import MODELS

#: Fraction of positives of a box head.
FOREGROUND = 0.25


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

    def bce(logits, target):
        one_hot = F.one_hot(target, num_classes + 1)[:, :-1].to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, one_hot)

    found = {
        'F.cross_entropy': (ce, num_classes + 1, labels),
        'F.binary_cross_entropy_with_logits': (bce, num_classes, labels),
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


def main() -> None:
    """Measure and print."""
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
        if args.only.lower() in name.lower() or name == 'F.cross_entropy'
    }
    times: dict[str, list[float]] = {name: [] for name in found}
    gen = torch.Generator().manual_seed(1)
    inputs = {
        channels: torch.randn(args.rows, channels, generator=gen).to(args.device)
        for channels in {case[1] for case in found.values()}
    }
    inputs = {channels: logits.requires_grad_() for channels, logits in inputs.items()}
    order = random.Random(0)
    for round_ in range(args.rounds + 2):
        for name in order.sample(list(found), len(found)):
            loss, channels, target = found[name]
            time_ = seconds(loss, inputs[channels], target)
            if round_ >= 2:
                times[name].append(time_)
    reference = statistics.median(times['F.cross_entropy'])
    print(
        f'{args.rows} rows x {args.classes} classes, {FOREGROUND:.0%} positive, '
        f'forward + backward, {args.device}, {args.threads} thread(s), torch '
        f'{torch.__version__}, median of {args.rounds}\n'
    )
    width = max(map(len, found))
    print(f'{"loss":{width}}  {"ms":>7}  {"/ CE":>6}  {"matrices":>8}')
    for name, (loss, channels, target) in found.items():
        median = statistics.median(times[name])
        peak = peak_matrices(loss, inputs[channels], target)
        print(
            f'{name:{width}}  {1e3 * median:7.2f}  {median / reference:6.2f}  '
            f'{peak:8.2f}'
        )
    print(
        '\nmatrices: peak memory in units of the logits, their gradient included '
        '(F.cross_entropy itself keeps the log-softmax beside it).'
    )


if __name__ == '__main__':
    main()
