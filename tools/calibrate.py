"""Find the strength of a test-time calibration on the validation set."""

import sys
from collections.abc import Sequence
from pathlib import Path

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
)

METHODS = ('logit_adjustment', 'norcal', 'tau_normalization')


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Evaluate a checkpoint with several strengths of logit adjustment, NorCal and '
        'tau-normalisation on the validation set, and write the config of the best.',
        'python tools/calibrate.py CONFIG CHECKPOINT --out calibrated.py',
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument(
        '--strengths', nargs='+', type=float, default=[0.25, 0.5, 0.75, 1.0]
    )
    parser.add_argument(
        '--counts', choices=['img_count', 'instance_count'], default='img_count'
    )
    parser.add_argument('--class-stats', metavar='FILE', help='of the training set')
    parser.add_argument(
        '--metric', metavar='KEY', help='to be made large (default: the first one)'
    )
    parser.add_argument('--out', metavar='FILE.py', help='config with the best one')
    parser.add_argument('--table', metavar='FILE.md', help='write the table')
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    if args.launcher != 'none':
        raise ToolError('one process sweeps the strengths: leave out --launcher')
    if args.out is not None and not args.out.endswith('.py'):
        raise ToolError(f'--out must end in .py, got {args.out}')
    choose_device(args.device)
    cfg = load_config(args)
    prepare(cfg, args)
    cfg.load_from = checked_file(args.checkpoint, 'checkpoint')
    if not cfg.get('val_dataloader'):
        raise ToolError(f'{cfg.filename} has no `val_dataloader` to choose on')

    from mmdet_imbalance.engine.hooks.calibration_hook import CalibrationHook
    from mmdet_imbalance.evaluation.tables import markdown_table, text_table

    runner = build_runner(cfg)
    runner.load_or_resume()
    loop = runner.build_val_loop(cfg.val_cfg)
    # Hooks look for the loop that runs.
    runner._val_loop = loop
    hook = CalibrationHook(METHODS[0], 0.0, args.counts, args.class_stats)
    runner.register_hook(hook)
    trials = [('none', 0.0)]
    trials += [(m, s) for m in args.methods for s in args.strengths if s]
    rows = []
    for method, strength in trials:
        hook.method, hook.strength = (
            METHODS[0] if method == 'none' else method,
            strength,
        )
        figures = loop.run()
        numbers = {k: v for k, v in figures.items() if isinstance(v, float | int)}
        key = args.metric or next(iter(numbers), None)
        if key not in numbers:
            raise ToolError(
                f'no figure {key!r}; there are {", ".join(numbers) or "none at all"}'
            )
        rows.append((method, strength, numbers))
        print(f'{method} {strength:g}: {key} {numbers[key]:.4f}', flush=True)
    best = max(rows, key=lambda row: row[2][key])
    shown = [k for k in rows[0][2] if not k.split('/')[-1].startswith('AP_')][:12]
    header = ['method', 'strength', *(k.split('/')[-1] for k in shown)]
    cells = [[m, f'{s:g}', *(100 * n.get(k, -1) for k in shown)] for m, s, n in rows]
    print(text_table(header, cells, digits=1))
    if args.table is not None:
        _write(args.table, markdown_table(header, cells, digits=1) + '\n')
    if best[0] == 'none':
        print(f'no calibration raises {key}: nothing to write')
        return
    arguments = [f'method={best[0]!r}', f'strength={best[1]:g}']
    if args.counts != 'img_count':
        arguments.append(f'counts={args.counts!r}')
    if args.class_stats is not None:
        arguments.append(f'class_stats={args.class_stats!r}')
    line = f"dict(type='mmdet_imbalance.CalibrationHook', {', '.join(arguments)})"
    print(f'best {key}; add to custom_hooks:\n  {line}')
    if args.out is not None:
        old = [dict(h) for h in cfg.get('custom_hooks') or ()]
        hooks = ',\n    '.join([*(repr(h) for h in old), line])
        base = Path(cfg.filename).absolute()
        _write(args.out, f'_base_ = {str(base)!r}\ncustom_hooks = [\n    {hooks},\n]\n')


def _write(path: str, text: str) -> None:
    from mmdet_imbalance.core.atomic_write import write_text_atomically

    write_text_atomically(path, text)
    print(f'written: {path}')


if __name__ == '__main__':
    sys.exit(main())
