"""Evaluate a checkpoint: the host's runner, with errors of one line."""

import sys
from collections.abc import Sequence

from mmdet_imbalance.cli import (
    ToolError,
    add_config_arguments,
    checked_file,
    command_line,
    load_config,
    tool_parser,
)
from mmdet_imbalance.cli.runs import (
    add_run_arguments,
    build_runner,
    choose_device,
    prepare,
    run,
)


def parse_args(argv: Sequence[str] | None = None):
    """Options of the command line."""
    parser = tool_parser(
        'Evaluate a checkpoint on the test dataset of a config.',
        'python tools/test.py configs/demo/faster-rcnn_tiny_12e_glyphs.py '
        'work_dirs/faster-rcnn_tiny_12e_glyphs/epoch_12.pth',
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    add_run_arguments(parser)
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='write the predictions for later analysis'
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='write pictures of the detections'
    )
    return parser.parse_args(argv)


@command_line
def main(argv: Sequence[str]) -> None:
    """Evaluate."""
    args = parse_args(argv)
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise ToolError(f'--out must end in .pkl, got {args.out}')
    choose_device(args.device)
    cfg = load_config(args)
    prepare(cfg, args)
    if not cfg.get('test_dataloader'):
        raise ToolError(
            f'{cfg.filename} has no `test_dataloader` to test on; tools/recommend.py '
            'writes one with --val'
        )
    cfg.load_from = checked_file(args.checkpoint, 'checkpoint')

    from mmdet.evaluation import DumpDetResults

    if args.show_dir is not None:
        cfg.default_hooks.visualization = {
            'type': 'DetVisualizationHook',
            'draw': True,
            'test_out_dir': args.show_dir,
        }
    runner = build_runner(cfg)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    run(runner, 'test')


if __name__ == '__main__':
    sys.exit(main())
