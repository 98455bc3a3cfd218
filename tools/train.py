"""Train a detector: the host's runner, with errors of one line."""

import sys
from collections.abc import Sequence

from mmdet_imbalance.cli import (
    add_config_arguments,
    command_line,
    load_config,
    tool_parser,
)
from mmdet_imbalance.cli.resilience import make_resumable, skip_unreadable_images
from mmdet_imbalance.cli.runs import (
    add_run_arguments,
    build_runner,
    choose_device,
    enable_amp,
    enable_auto_scale_lr,
    prepare,
    resume_from,
    run,
    set_seed,
)


def parse_args(argv: Sequence[str] | None = None):
    """Options of the command line."""
    parser = tool_parser(
        'Train a detector.',
        'python tools/train.py configs/demo/faster-rcnn_tiny_12e_glyphs.py --seed 0\n'
        '  python tools/train.py CONFIG --data-root DIR --resume',
    )
    add_config_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the total batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint, or from the last one of the work folder',
    )
    parser.add_argument('--seed', type=int, help='seed of the run')
    parser.add_argument(
        '--skip-unreadable',
        type=int,
        metavar='N',
        help='pass over up to N training images that cannot be read, with a warning '
        'each (default: the first one ends the run)',
    )
    parser.add_argument(
        '--host-hooks',
        action='store_true',
        help="leave the config as it is: the host's checkpoints and random numbers, "
        'without atomic writes, a checkpoint on SIGTERM and exact resuming',
    )
    return parser.parse_args(argv)


@command_line
def main(argv: Sequence[str]) -> None:
    """Train."""
    args = parse_args(argv)
    choose_device(args.device)
    cfg = load_config(args)
    prepare(cfg, args)
    if args.amp:
        enable_amp(cfg)
    if args.auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if args.seed is not None:
        set_seed(cfg, args.seed)
    if args.skip_unreadable is not None:
        skip_unreadable_images(cfg, args.skip_unreadable)
    if not args.host_hooks:
        make_resumable(cfg)
    if args.resume is not None:
        resume_from(cfg, args.resume)
    run(build_runner(cfg), 'train')


if __name__ == '__main__':
    sys.exit(main())
