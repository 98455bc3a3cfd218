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

METHODS = ('logit_adjustment', 'norcal', 'tau_normalization', 'fractal')


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Evaluate a checkpoint with several strengths of logit adjustment, NorCal, '
        'tau-normalisation and fractal calibration on the validation set, and write '
        'the config of the best. With --splits also say what the choice is worth on '
        'images that it was not made on.',
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
    parser.add_argument(
        '--splits',
        type=int,
        default=0,
        metavar='N',
        help='halve the images at random N times, choose on one half and judge on the '
        'other, both ways',
    )
    parser.add_argument('--split-seed', type=int, default=0, help='of the halving')
    parser.add_argument('--out', metavar='FILE.py', help='config with the best one')
    parser.add_argument('--table', metavar='FILE.md', help='write the tables')
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    if args.launcher != 'none':
        raise ToolError('one process sweeps the strengths: leave out --launcher')
    if args.splits < 0:
        raise ToolError(f'--splits must not be negative, got {args.splits}')
    if args.out is not None and not args.out.endswith('.py'):
        raise ToolError(f'--out must end in .py, got {args.out}')
    choose_device(args.device)
    cfg = load_config(args)
    prepare(cfg, args)
    cfg.load_from = checked_file(args.checkpoint, 'checkpoint')
    if not cfg.get('val_dataloader'):
        raise ToolError(f'{cfg.filename} has no `val_dataloader` to choose on')

    from mmengine.evaluator import Evaluator

    from mmdet_imbalance.engine.calibration_sweep import sweep
    from mmdet_imbalance.engine.hooks.calibration_hook import CalibrationHook
    from mmdet_imbalance.evaluation.held_out import PartsEvaluator, random_halves
    from mmdet_imbalance.evaluation.tables import markdown_table, text_table

    runner = build_runner(cfg)
    runner.load_or_resume()
    loop = runner.build_val_loop(cfg.val_cfg)
    # Hooks look for the loop that runs.
    runner._val_loop = loop
    hook = CalibrationHook(METHODS[0], 0.0, args.counts, args.class_stats)
    runner.register_hook(hook)
    halves = random_halves(len(loop.dataloader.dataset), args.splits, args.split_seed)

    def make_evaluator(metrics):
        return PartsEvaluator(metrics, halves) if halves else Evaluator(list(metrics))

    trials = [('none', 0.0)]
    trials += [(m, s) for m in args.methods for s in args.strengths if s]
    rows, parts = [], []
    for trial, figures, evaluator in sweep(runner, loop, hook, trials, make_evaluator):
        numbers = {k: v for k, v in figures.items() if isinstance(v, float | int)}
        key = args.metric or next(iter(numbers), None)
        if key not in numbers:
            raise ToolError(
                f'no figure {key!r}; there are {", ".join(numbers) or "none at all"}'
            )
        rows.append((*trial, numbers))
        parts.append(evaluator.part_figures if halves else [])
        print(f'{trial[0]} {trial[1]:g}: {key} {numbers[key]:.4f}', flush=True)
    best = max(rows, key=lambda row: row[2][key])
    shown = [k for k in rows[0][2] if not k.split('/')[-1].startswith('AP_')][:12]
    header = ['method', 'strength', *(k.split('/')[-1] for k in shown)]
    cells = [[m, f'{s:g}', *(100 * n.get(k, -1) for k in shown)] for m, s, n in rows]
    print(text_table(header, cells, digits=1))
    texts = [markdown_table(header, cells, digits=1)]
    if halves:
        header, cells = _held_out_table(trials, parts, key, shown)
        print(
            f'\nwhat the choice by {key} gains on the other half, {args.splits} '
            f'splits, +- standard deviation over them:\n{text_table(header, cells)}'
        )
        texts.append(markdown_table(header, cells))
    if args.table is not None:
        _write(args.table, '\n\n'.join(texts) + '\n')
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


def _held_out_table(trials, parts, key, shown):
    """Header and a row for each method, and one for the choice among all."""
    import numpy as np

    from mmdet_imbalance.evaluation.held_out import held_out_gain

    names = list(dict.fromkeys([key, *shown]))
    # A metric may give no figure for a half without detections.
    figures = {
        name: np.array([[half.get(name, -1.0) for half in row] for row in parts])
        for name in names
    }
    methods = list(dict.fromkeys(method for method, _ in trials[1:]))
    rows = []
    for method in [*methods, 'best of all']:
        own = [
            k for k, (name, _) in enumerate(trials) if method in (name, 'best of all')
        ]
        found = held_out_gain(figures, key, own)
        strengths = np.array([trials[k][1] for k in found.chosen])
        low, middle, high = np.percentile(strengths, [0, 50, 100])
        text = [
            '-' if np.isnan(v) else f'{100 * v:+.1f} +- {100 * found.spread[name]:.1f}'
            for name, v in found.gain.items()
        ]
        chosen = f'{middle:g} ({low:g} to {high:g})'
        rows.append([method, chosen, f'{100 * found.on_chosen:+.1f}', *text])
    short = [name.split('/')[-1] for name in names]
    header = ['chosen among', 'strength', f'{short[0]} where chosen', *short]
    return header, rows


def _write(path: str, text: str) -> None:
    from mmdet_imbalance.core.atomic_write import write_text_atomically

    write_text_atomically(path, text)
    print(f'written: {path}')


if __name__ == '__main__':
    sys.exit(main())
