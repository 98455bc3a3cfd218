"""Show what the data sampler of a config will show: images and boxes by class."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli.config import add_config_arguments, load_config
from mmdet_imbalance.cli.errors import ToolError, command_line, tool_parser


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Images and boxes of each class that the data sampler shows in each epoch.',
        'python tools/inspect_sampler.py configs/aquarium/faster-rcnn_efficientnet-'
        'lite0_fpn_concurrent-softmax_soft-balance_10e_aquarium.py '
        '--data-root data/aquarium --plot epochs.png',
    )
    add_config_arguments(parser)
    parser.add_argument(
        '--epochs', type=int, help="number of epochs (default: the config's)"
    )
    parser.add_argument('--plot', metavar='FILE', help='picture as PNG, PDF or SVG')
    parser.add_argument(
        '--max-rows', type=int, default=40, help='most classes in the table'
    )
    args = parser.parse_args(argv)
    if args.epochs is not None and args.epochs < 1:
        raise ToolError(f'--epochs must be at least 1, got {args.epochs}')
    cfg = load_config(args)
    if args.plot is not None and not Path(args.plot).absolute().parent.is_dir():
        raise ToolError(f'folder not found: {Path(args.plot).absolute().parent}')

    from mmengine.registry import DATA_SAMPLERS, DATASETS, init_default_scope

    from mmdet_imbalance.core.resampling import class_thirds
    from mmdet_imbalance.datasets.label_index import class_names
    from mmdet_imbalance.datasets.samplers.epoch_text import text_table
    from mmdet_imbalance.datasets.samplers.expectation import (
        epoch_table,
        images_by_class,
    )
    from mmdet_imbalance.datasets.samplers.stream_sampler import StreamSampler
    from mmdet_imbalance.visualization.epoch_plot import plot_epochs

    loader = cfg.get('train_dataloader')
    if not loader or 'dataset' not in loader or 'sampler' not in loader:
        raise ToolError(f'{cfg.filename} has no `train_dataloader` with a `sampler`')
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    dataset = DATASETS.build(loader.dataset)
    seed = (cfg.get('randomness') or {}).get('seed') or 0
    defaults = dict(dataset=dataset, seed=seed)
    kind = DATA_SAMPLERS.get(loader.sampler.type)
    knows = isinstance(kind, type) and issubclass(kind, StreamSampler)
    if knows:
        # The table below says the same, and more.
        defaults['verbose'] = False
    sampler = DATA_SAMPLERS.build(loader.sampler, default_args=defaults)
    if knows and loader.get('batch_size'):
        sampler.set_batch_size(loader.batch_size)
    table = epoch_table(sampler, dataset, range(args.epochs or epochs_of(cfg, sampler)))
    by_class = sampler.by_class if knows else images_by_class(dataset)
    img_count = by_class.img_count
    names = class_names(dataset) or [str(c) for c in range(len(img_count))]
    groups = class_thirds(img_count)
    print(text_table(table, img_count, names, groups, args.max_rows))
    if args.plot is not None:
        title = f'{type(sampler).__name__}, {Path(cfg.filename).stem}'
        plot_epochs(table.epochs, table.images, groups, args.plot, title)
        print(f'written: {args.plot}')


def epochs_of(cfg, sampler) -> int:
    """Number of epochs that the config trains, rounded up."""
    train_cfg = cfg.get('train_cfg') or {}
    if train_cfg.get('max_epochs'):
        return train_cfg['max_epochs']
    if train_cfg.get('max_iters'):
        batch_size = cfg.train_dataloader.get('batch_size') or 1
        return -(-train_cfg['max_iters'] * batch_size // len(sampler))
    raise ToolError('the config names neither epochs nor iterations: give --epochs')


if __name__ == '__main__':
    sys.exit(main())
