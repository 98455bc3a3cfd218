"""Time and memory of the data samplers at the size of Open Images.

Generated statistics with the size and the long tail of Open Images (1.74 M images,
14.6 M boxes, 601 classes); ours against the host's `ClassAwareSampler` in one run.
Budgets are judged by processor seconds of one thread, which are the wall seconds of an
idle machine; wall seconds stand beside them.

    python benchmarks/bench_samplers.py
    python benchmarks/bench_samplers.py --images 200000 --out report.json
"""

import argparse
import json
import logging
import time
import tracemalloc
from pathlib import Path

import numpy as np
from mmdet.datasets.samplers import ClassAwareSampler
from mmengine.logging import MMLogger

from mmdet_imbalance.core.label_index import LabelIndex
from mmdet_imbalance.datasets.samplers import (
    ProgressivelyBalancedSampler,
    RepeatFactorSampler,
    SoftBalanceSampler,
    UniformClassSampler,
)

FULL_IMAGES = 1_740_000
BUDGET = dict(construction_s=2.0, stream_s=1.0, stream_mb=200.0)


class ColumnarImages:
    """Only the label columns of a dataset."""

    def __init__(self, num_images, num_classes, boxes_per_image=8.4, seed=0):
        generator = np.random.default_rng(seed)
        boxes = generator.geometric(1 / (boxes_per_image + 1), num_images) - 1
        self.image_ptr = np.concatenate([[0], np.cumsum(boxes)])
        probs = 1 / np.arange(1, num_classes + 1) ** 1.3
        edges = np.cumsum(probs / probs.sum())
        # An image repeats its own classes, as pictures do: half of its boxes bear the
        # class of its first box.
        labels = np.searchsorted(edges, generator.random(self.image_ptr[-1]))
        first = np.repeat(self.image_ptr[:-1], boxes)
        repeats = generator.random(len(labels)) < 0.5
        labels[repeats] = labels[first[repeats]]
        self.labels = labels.clip(0, num_classes - 1)
        self.ignored = generator.random(len(labels)) < 0.05
        self.metainfo = {'classes': tuple(f'class {c}' for c in range(num_classes))}

    def __len__(self):
        return len(self.image_ptr) - 1

    def label_index(self):
        return LabelIndex(self.image_ptr, self.labels, self.ignored)

    def get_cat_ids(self, index):
        return self.labels[self.image_ptr[index] : self.image_ptr[index + 1]].tolist()


def timed(function):
    """Result, and processor and wall seconds."""
    wall, start = time.perf_counter(), time.process_time()
    result = function()
    return result, np.array([time.process_time() - start, time.perf_counter() - wall])


def peak_mb(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def exhaust(sampler):
    return sum(1 for _ in sampler)


def measure(build, repeats):
    sampler, construction = timed(build)
    rows = []
    for epoch in range(1, repeats + 1):
        sampler.set_epoch(epoch)
        if hasattr(sampler, 'round_stream'):
            _, stream = timed(lambda e=epoch: sampler.round_stream(e))
        else:
            # The host builds its list of indices in `__iter__`.
            _, stream = timed(lambda: iter(sampler))
        _, drawn = timed(lambda: exhaust(sampler))
        rows.append((stream, drawn))
    stream, drawn = np.median(rows, axis=0)
    memory = peak_mb(lambda: exhaust(sampler)) if hasattr(sampler, 'seed') else None
    figures = dict(construction=construction, stream=stream, epoch=drawn)
    return {
        **{f'{name}_s': float(both[0]) for name, both in figures.items()},
        **{f'{name}_wall_s': float(both[1]) for name, both in figures.items()},
        'stream_mb': memory,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=FULL_IMAGES)
    parser.add_argument('--classes', type=int, default=601)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--without-host', action='store_true')
    parser.add_argument('--out', type=Path, metavar='FILE', help='figures as JSON')
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    data = ColumnarImages(args.images, args.classes)
    print(
        f'{len(data)} images, {len(data.labels)} boxes, {args.classes} classes; '
        f'numpy {np.__version__}'
    )
    common = dict(dataset=data, seed=0)
    builders = {
        'SoftBalanceSampler, natural': lambda: SoftBalanceSampler(
            schedule=[(0, 0.0)], **common
        ),
        'SoftBalanceSampler, 0.25': lambda: SoftBalanceSampler(
            schedule=[(0, 0.25)], **common
        ),
        'SoftBalanceSampler, 0.7': lambda: SoftBalanceSampler(
            schedule=[(0, 0.7)], **common
        ),
        'SoftBalanceSampler, ramp by iteration': lambda: SoftBalanceSampler(
            schedule=[(0, 0.0), (args.images // 8, 1.0)],
            interpolation='linear',
            by_epoch=False,
            infinite=False,
            batch_size=16,
            **common,
        ),
        'UniformClassSampler': lambda: UniformClassSampler(**common),
        'ProgressivelyBalancedSampler': lambda: ProgressivelyBalancedSampler(
            end=4, **common
        ),
        'RepeatFactorSampler': lambda: RepeatFactorSampler(
            oversample_thr=0.001, **common
        ),
    }
    if not args.without_host:
        builders['ClassAwareSampler (host)'] = lambda: ClassAwareSampler(**common)
    print(
        'seconds: processor / wall\n'
        f'{"":40}{"construct":>15}{"stream":>15}{"epoch":>15}{"peak":>10}'
    )
    figures = {}
    for name, build in builders.items():
        repeats = 1 if 'host' in name else args.repeats
        row = figures[name] = measure(build, repeats)
        print(
            f'{name:40}'
            + ''.join(
                f'{row[key + "_s"]:7.2f} /{row[key + "_wall_s"]:6.2f}'
                for key in ('construction', 'stream', 'epoch')
            )
            + f'{row["stream_mb"]:7.0f} MB',
            flush=True,
        )
    if not args.without_host:
        ours, host = figures['UniformClassSampler'], figures['ClassAwareSampler (host)']
        for key in ('construction_s', 'epoch_s', 'stream_mb'):
            print(f'class-aware, host / ours, {key}: {host[key] / ours[key]:.1f}')
    if args.images < FULL_IMAGES:
        print('the budgets are those of the full size, this is less')
    for name, row in figures.items():
        for key, limit in BUDGET.items() if 'host' not in name else ():
            verdict = 'PASS' if row[key] <= limit else 'over budget'
            print(f'{verdict}: {name}, {key} {row[key]:.2f}, budget {limit:g}')
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=2))


if __name__ == '__main__':
    main()
