"""Train a stock detector and the same with a few changed lines; compare them.

Needs no data: pictures of glyphs are made on the spot, with a long tail of classes and
with letters of several scripts that look the same.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli import command_line, tool_parser
from mmdet_imbalance.cli.config import find_config
from mmdet_imbalance.cli.demo_report import (
    draw_detections,
    group_sizes,
    plot_ap_by_frequency,
    plot_tree,
    read_annotation,
    table,
)
from mmdet_imbalance.cli.errors import ToolError
from mmdet_imbalance.cli.runs import choose_device, has_gpu
from mmdet_imbalance.cli.side_by_side import TrainingRun, run_all
from mmdet_imbalance.core.atomic_write import write_text_atomically

CONFIGS = {
    'stock': 'configs/demo/faster-rcnn_tiny_12e_glyphs.py',
    'changed lines': 'configs/demo/'
    'faster-rcnn_tiny_concurrent-softmax_soft-balance_12e_glyphs.py',
}
TRAIN_SCRIPT = Path(__file__).resolve().parent / 'train.py'
#: Seconds between two lines of progress where they cannot overwrite each other.
LINE_SECONDS = 10


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = tool_parser(
        'Train two configs on embedded data and print their AP side by side.',
        'python tools/demo.py --seeds 3 --out work_dirs/demo',
    )
    parser.add_argument('--out', default='work_dirs/demo', help='folder of the results')
    parser.add_argument('--seeds', type=int, default=2, help='number of seeds')
    parser.add_argument('--first-seed', type=int, default=0, help='the first of them')
    parser.add_argument('--epochs', type=int, help='length of a training')
    parser.add_argument('--num-images', type=int, help='training images')
    parser.add_argument('--num-val-images', type=int, help='test images')
    parser.add_argument('--pictures', type=int, default=6, help='pictures to draw')
    parser.add_argument(
        '--device', choices=['auto', 'cpu', 'cuda'], default='auto', help='as train.py'
    )
    parser.add_argument(
        '--jobs', type=int, help='trainings at a time (default: 2 on CPU, 1 on a GPU)'
    )
    args = parser.parse_args(argv)
    for name in ('seeds', 'epochs', 'num_images', 'num_val_images', 'jobs'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ToolError(f'--{name.replace("_", "-")} must be at least 1')
    for name in ('first_seed', 'pictures'):
        if getattr(args, name) < 0:
            raise ToolError(f'--{name.replace("_", "-")} must not be negative')
    return args


@command_line
def main(argv: Sequence[str]) -> None:
    """Train, compare, draw."""
    args = parse_args(argv)
    choose_device(args.device)
    out = Path(args.out)
    runs = plan(args, out)
    print(changed_lines(), flush=True)
    on_gpu = args.device != 'cpu' and has_gpu()
    num_parallel = args.jobs or (1 if on_gpu else min(2, os.cpu_count() or 1))
    run_all(runs, TRAIN_SCRIPT, args.device, num_parallel, Progress())
    print()
    report(runs, out, args.pictures)


def plan(args: argparse.Namespace, out: Path) -> list[TrainingRun]:
    """All trainings, the variants of a seed beside each other."""
    from mmengine.config import Config

    runs = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name, config in CONFIGS.items():
            path = find_config(config)
            loader = Config.fromfile(str(path)).train_dataloader
            num_images = args.num_images or loader.dataset.num_images
            epochs = args.epochs or Config.fromfile(str(path)).train_cfg.max_epochs
            options = [
                f'train_dataloader.dataset.num_images={num_images}',
                f'train_cfg.max_epochs={epochs}',
                f'train_cfg.val_interval={epochs}',
                f'default_hooks.checkpoint.interval={epochs}',
            ]
            if args.num_val_images:
                options.append(
                    f'val_dataloader.dataset.num_images={args.num_val_images}'
                )
            work_dir = out / f'{name.replace(" ", "-")}-seed{seed}'
            # An older run's log would be read for this one's.
            shutil.rmtree(work_dir, ignore_errors=True)
            steps = epochs * -(-num_images // loader.batch_size)
            runs.append(TrainingRun(name, path, seed, work_dir, steps, options))
    return runs


def changed_lines() -> str:
    """What the second config says beyond the first, which it inherits from."""
    lines = find_config(CONFIGS['changed lines']).read_text().splitlines()
    added = [f'+ {line}' for line in lines if not line.startswith('_base_')]
    heads = [f'--- {CONFIGS["stock"]}', f'+++ {CONFIGS["changed lines"]}']
    return '\n'.join([*heads, *added])


def report(runs: Sequence[TrainingRun], out: Path, num_pictures: int) -> None:
    """Print the table, write the pictures."""
    figures = {name: [] for name in CONFIGS}
    for run in runs:
        figures[run.name].append({**run.figures(), 'minutes': run.seconds / 60})
    by_name = {name: [r for r in runs if r.name == name] for name in CONFIGS}
    stock = by_name['stock']
    annotations = [read_annotation(run.results_prefix) for run in stock]
    text = '\n'.join(
        [
            table(figures),
            '',
            f'Classes by training images (seed {stock[0].seed}): '
            f'{group_sizes(annotations[0])}.',
            'Same data, steps and start for both in each seed; the test set is '
            'balanced, and every label of an object counts.',
            '`tree mAP`: inner nodes are classes too, boxes and detections counting '
            'for all ancestors.',
        ]
    )
    if len(stock) == 1:
        text += '\nOne seed: a difference of a point may be noise; --seeds 3 tells.'
    else:
        text += '\n±: standard deviation over the seeds (data and start differ).'
    print(text)
    write_text_atomically(out / 'comparison.txt', f'{text}\n')
    plot_ap_by_frequency(out / 'ap-by-frequency.png', figures, annotations)
    # A test set of the same seed for all trainings; the cached pictures are reused.
    test_set = evaluated_images(stock[0])
    last = {name: of_name[0] for name, of_name in by_name.items()}
    for name, run in last.items():
        plot_tree(
            out / f'ap-tree-{name.replace(" ", "-")}.png',
            f'AP at each node, {name}, seed {run.seed}',
            run.figures(),
            test_set.metainfo,
        )
    prefixes = {name: run.results_prefix for name, run in last.items()}
    images = ImagesOf(test_set)
    draw_detections(out, prefixes, images, test_set.metainfo, num_pictures)
    print(f'\nPictures, plots, logs and checkpoints are in {out}')


def evaluated_images(run: TrainingRun):
    """The test set of a training, from the config that it left in its folder."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmdet_imbalance.registry import DATASETS

    cfg = Config.fromfile(str(run.work_dir / run.config.name))
    init_default_scope('mmdet')
    return DATASETS.build(cfg.val_dataloader.dataset)


class ImagesOf:
    """Pictures of a glyph dataset by their number."""

    def __init__(self, dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int):
        return self.dataset.image(index)


class Progress:
    """Prints a line again and again in place, or every ten seconds into a file."""

    def __init__(self) -> None:
        self._last = -LINE_SECONDS

    def __call__(self, line: str) -> None:
        """Show `line`."""
        if sys.stdout.isatty():
            print(f'\r\033[K{line[: shutil.get_terminal_size().columns - 1]}', end='')
            sys.stdout.flush()
        elif time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            print(line, flush=True)


if __name__ == '__main__':
    sys.exit(main())
