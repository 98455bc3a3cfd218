"""Time of a training iteration of each method beside the stock detector's.

    python benchmarks/bench_iteration.py --device cuda --amp
    python benchmarks/bench_iteration.py --scale 96 128 --rounds 3 --iterations 2

builds the host's Faster R-CNN and RetinaNet (R50, FPN, 80 classes) and the configs of
this project that change them, all in one process, and lets each take turns with the
stock one: some iterations each, round by round, on the same images of noise. Printed is
the median over the rounds of the time beside that of the stock detector's turn just
before, so that a clock that drifts cancels out. On a GPU the time is that of the clock
between two synchronisations, on a CPU that of the process with one thread.

With few images a GPU waits for the processor that launches its kernels, and the clock
scatters with it. `--profile` prints the time in which the kernels ran, which does not,
and names the operators of what takes more than 2 % longer by it. More images
(`--images 8`) keep the GPU busy.
"""

import argparse
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import mmdet
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.structures import InstanceData

import mmdet_imbalance.registry  # noqa: F401
from mmdet_imbalance.cli.config import find_config
from mmdet_imbalance.testing import demo_class_stats

HOST_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
NUM_CLASSES = 80
TARGET = 1.02
#: Stock detectors and what is compared with them: folder and part of the name of
#: a config, or the loss that takes the place of the stock one.
GROUPS = {
    'faster-rcnn_r50_fpn': {
        'concurrent softmax': ('concurrent_softmax', 'concurrent-softmax'),
        'class-balanced softmax': ('class_balanced', 'class-balanced-softmax'),
        'QFL and DFL': ('gfl', 'gfl'),
        'PISA': ('pisa', 'pisa'),
        'affinity': ('affinity', 'affinity'),
        'class-balanced sigmoid': 'ClassBalancedSigmoidLoss',
        'class-balanced focal': 'ClassBalancedFocalLoss',
        'distributed softmax': 'DistributedSoftmaxLoss',
        'class-aware selective': 'ClassAwareSelectiveLoss',
        'federated': 'FederatedLoss',
    },
    'retinanet_r50_fpn': {
        'class-balanced focal': ('class_balanced', 'class-balanced-focal'),
        'GHM': ('ghm', 'ghm'),
        'QFL and DFL': ('gfl', 'gfl'),
        'PISA': ('pisa', 'pisa'),
        'concurrent softmax': ('concurrent_softmax', 'concurrent-softmax'),
    },
}


@dataclass
class Contestant:
    """A detector with its optimiser.

    Attributes:
        name: that is printed.
        model: the detector.
        optim_wrapper: of its parameters; the learning rate is 0.
        seconds: of an iteration, by round.
        stock_seconds: of an iteration of the stock detector just before.
    """

    name: str
    model: torch.nn.Module
    optim_wrapper: OptimWrapper
    seconds: list[float] = field(default_factory=list)
    stock_seconds: list[float] = field(default_factory=list)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scale', type=int, nargs=2, default=[800, 1333])
    parser.add_argument('--images', type=int, default=2)
    parser.add_argument('--objects', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--iterations', type=int, default=5)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--amp', action='store_true')
    parser.add_argument('--profile', action='store_true')
    parser.add_argument('--only', default='', help='methods whose name contains this')
    return parser.parse_args()


def contestant(name: str, cfg: Config, args) -> Contestant:
    """The detector of a config, with random weights."""
    torch.manual_seed(0)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).to(args.device).train()
    stats = demo_class_stats(NUM_CLASSES)
    for module in model.modules():
        if callable(getattr(module, 'set_class_stats', None)):
            module.set_class_stats(stats)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    if args.amp:
        dtype = 'float16' if args.device == 'cuda' else 'bfloat16'
        wrapper = AmpOptimWrapper(optimizer=optimizer, dtype=dtype)
    else:
        wrapper = OptimWrapper(optimizer)
    return Contestant(name, model, wrapper)


def stock_config(detector: str) -> Config:
    """The host's config of a detector."""
    folder = detector.split('_')[0].replace('-', '_')
    return Config.fromfile(str(HOST_CONFIGS / folder / f'{detector}_1x_coco.py'))


def variant(detector: str, change: str | tuple[str, str]) -> Config:
    """Config of a method."""
    if isinstance(change, tuple):
        folder, stem = change
        name = f'configs/{folder}/{detector}_{stem}_1x_coco.py'
        return Config.fromfile(str(find_config(name)))
    cfg = stock_config(detector)
    cfg.model.roi_head.bbox_head.loss_cls = dict(
        type=f'mmdet_imbalance.{change}', num_classes=NUM_CLASSES
    )
    return cfg


def batch(args) -> dict:
    """Images of noise with objects at random places, as a data loader gives them."""
    height, width = args.scale
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for index in range(args.images):
        image = torch.randint(256, (3, height, width), generator=generator)
        inputs.append(image.to(torch.uint8))
        size = torch.tensor([width, height])
        corner = 0.6 * size * torch.rand(args.objects, 2, generator=generator)
        extent = (0.05 + 0.35 * torch.rand(args.objects, 2, generator=generator)) * size
        boxes = torch.cat([corner, corner + extent], dim=1)
        labels = torch.randint(NUM_CLASSES, (args.objects,), generator=generator)
        shape = (height, width)
        sample = DetDataSample(
            metainfo=dict(
                img_id=index, img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0)
            )
        )
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.ignored_instances = InstanceData(
            bboxes=boxes.new_zeros(0, 4), labels=labels.new_zeros(0)
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def step(runner: Contestant, data: dict) -> None:
    """One iteration, as the host's training loop takes it."""
    # The host's preprocessor writes into the samples.
    samples = [sample.clone() for sample in data['data_samples']]
    data = dict(inputs=list(data['inputs']), data_samples=samples)
    runner.model.train_step(data, runner.optim_wrapper)


def clock(args) -> float:
    """Seconds, after everything that was asked of the device."""
    if args.device == 'cuda':
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def turn(runner: Contestant, data: dict, args) -> float:
    """Seconds of an iteration, over a few of them."""
    step(runner, data)
    start = clock(args)
    for _ in range(args.iterations):
        step(runner, data)
    return (clock(args) - start) / args.iterations


def race(runners: list[Contestant], data: dict, args) -> None:
    """Fill in the times of all."""
    stock = runners[0]
    for runner in runners:
        for _ in range(2):
            step(runner, data)
    for _ in range(args.rounds):
        for runner in runners:
            runner.stock_seconds.append(turn(stock, data, args))
            runner.seconds.append(turn(runner, data, args))


def operators(runner: Contestant, data: dict, args) -> dict[str, float]:
    """Milliseconds of an iteration by operator, on the device that is measured."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU]
    if args.device == 'cuda':
        kinds.append(ProfilerActivity.CUDA)
    step(runner, data)
    clock(args)
    with profile(activities=kinds) as profiler:
        for _ in range(args.iterations):
            step(runner, data)
        clock(args)
    name = 'self_device_time_total' if args.device == 'cuda' else 'self_cpu_time_total'
    scale = 1e3 * args.iterations
    return {
        event.key: getattr(event, name) / scale for event in profiler.key_averages()
    }


def ratio(runner: Contestant) -> tuple[float, float, float]:
    """Median, smallest and largest ratio of a round."""
    pairs = zip(runner.seconds, runner.stock_seconds, strict=True)
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    return statistics.median(ratios), ratios[0], ratios[-1]


def report(runners: list[Contestant], args) -> None:
    """Print the table of one detector."""
    for runner in runners:
        middle, low, high = ratio(runner)
        milliseconds = 1e3 * statistics.median(runner.seconds)
        flag = '' if middle <= TARGET else '  over the target'
        print(
            f'{runner.name:28s} {milliseconds:8.1f} ms  {middle:.3f} '
            f'({low:.3f} .. {high:.3f}){flag}',
            flush=True,
        )


def profile_report(runners: list[Contestant], data: dict, args) -> None:
    """Print the time of the operators alone, and which of them take more."""
    print('  operators alone:', flush=True)
    before = operators(runners[0], data, args)
    whole = sum(before.values())
    for runner in runners:
        after = operators(runner, data, args)
        total = sum(after.values())
        print(f'  {runner.name:26s} {total:8.1f} ms  {total / whole:.3f}', flush=True)
        if total <= TARGET * whole:
            continue
        more = {key: after[key] - before.get(key, 0.0) for key in after}
        top = sorted(more, key=more.get, reverse=True)[:6]
        words = ', '.join(f'{key} +{more[key]:.2f}' for key in top)
        print(f'    ms an iteration: {words}', flush=True)


def main():
    args = parse_args()
    register_all_modules(init_default_scope=True)
    if args.device == 'cuda':
        device = torch.cuda.get_device_name()
    else:
        torch.set_num_threads(1)
        device = 'one CPU thread'
    print(
        f'torch {torch.__version__}, {device}, {args.images} images of '
        f'{args.scale[0]} x {args.scale[1]}, {"AMP" if args.amp else "float32"}, '
        f'{args.rounds} rounds of {args.iterations} iterations'
    )
    data = batch(args)
    for detector, changes in GROUPS.items():
        runners = [contestant(f'stock {detector}', stock_config(detector), args)]
        for name, change in changes.items():
            if args.only in name:
                runners.append(contestant(name, variant(detector, change), args))
        race(runners, data, args)
        report(runners, args)
        if args.profile:
            profile_report(runners, data, args)


if __name__ == '__main__':
    main()
