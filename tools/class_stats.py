"""Count the classes of a config's training set: a file, a histogram, a picture."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli.config import add_config_arguments, load_config
from mmdet_imbalance.cli.errors import ToolError, command_line, tool_parser


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Count images, objects and concurrent labels of each class of a dataset.',
        'python tools/class_stats.py configs/demo/faster-rcnn_tiny_12e_glyphs.py '
        '--out stats.json --plot stats.png',
    )
    add_config_arguments(parser)
    parser.add_argument(
        '--out', metavar='FILE', help='file for `class_stats=FILE` in losses and hooks'
    )
    parser.add_argument('--plot', metavar='FILE', help='histogram as PNG, PDF or SVG')
    parser.add_argument(
        '--split',
        choices=['train', 'val', 'test'],
        default='train',
        help='which data loader of the config (default: train)',
    )
    parser.add_argument(
        '--freq-thresholds',
        nargs=2,
        type=int,
        metavar=('RARE', 'COMMON'),
        help='most training images of a rare and of a common class '
        '(default: groups of the annotation, else 10 100)',
    )
    parser.add_argument(
        '--max-rows', type=int, default=40, help='most lines of the text histogram'
    )
    parser.add_argument('--no-cache', action='store_true', help='count anew')
    args = parser.parse_args(argv)
    cfg = load_config(args)
    for file in (args.out, args.plot):
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise ToolError(f'folder not found: {Path(file).absolute().parent}')

    from mmengine.registry import DATASETS, init_default_scope

    from mmdet_imbalance.core.class_histogram import text_histogram
    from mmdet_imbalance.datasets.class_stats import class_stats_of
    from mmdet_imbalance.visualization.class_plot import plot_histogram

    dataloader = cfg.get(f'{args.split}_dataloader')
    if not dataloader or 'dataset' not in dataloader:
        raise ToolError(f'{cfg.filename} has no `{args.split}_dataloader.dataset`')
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    dataset = DATASETS.build(dataloader.dataset)
    stats = class_stats_of(
        dataset,
        use_cache=not args.no_cache,
        freq_thresholds=args.freq_thresholds,
    )
    print(text_histogram(stats, args.max_rows))
    if args.out is not None:
        stats.save(args.out)
        print(f'written: {args.out}')
    if args.plot is not None:
        plot_histogram(stats, args.plot)
        print(f'written: {args.plot}')


if __name__ == '__main__':
    sys.exit(main())
