"""Run what is missing of a table, and write it up: published beside measured."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mmdet_imbalance.cli import command_line, tool_parser
from mmdet_imbalance.cli.config import find_config
from mmdet_imbalance.cli.errors import ToolError

TOOLS = Path(__file__).resolve().parent


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = tool_parser(
        'Run every row of a table that has no result yet, and write the table as '
        'Markdown, CSV and figure. Can be stopped at any time; the same command '
        'continues. Several processes may work on one --out.',
        'python tools/reproduce.py soft_balance --scale small --data-root data '
        '--settings hdbpmn --seeds 3 --out results\n'
        '  python tools/reproduce.py pisa --scale paper --launcher pytorch --gpus 8 '
        '--out results\n'
        '  python tools/reproduce.py ghm --scale small --launcher slurm --dry-run '
        '--out results',
    )
    parser.add_argument(
        'table', help='name of a file in configs/tables/, or the path of such a file'
    )
    parser.add_argument(
        '--scale', default='small', help='small or paper (default: small)'
    )
    parser.add_argument(
        '--out', required=True, type=Path, metavar='DIR', help='folder of all results'
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        metavar='DIR',
        help='folder with a folder for each data set (default: those of the configs)',
    )
    parser.add_argument(
        '--settings', nargs='+', default=[], metavar='NAME', help='only these data sets'
    )
    parser.add_argument(
        '--rows', nargs='+', default=[], metavar='NAME', help='run only these rows'
    )
    parser.add_argument('--seeds', type=int, metavar='N', help='seeds 0 .. N - 1')
    parser.add_argument(
        '--protocol',
        choices=['train', 'retrain_head'],
        help='in place of that of the table, e.g. train to confirm re-trained heads',
    )
    parser.add_argument(
        '--checkpoint',
        metavar='PATTERN',
        help='stock checkpoints that exist, e.g. '
        "'stock/{data}_{stock}_s{seed}/epoch_10.pth'; without it they are trained",
    )
    parser.add_argument('--amp', action='store_true', help='trainings in AMP (GPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='trainings scale the learning rate with the total batch size',
    )
    parser.add_argument(
        '--device', choices=['auto', 'cpu', 'cuda'], default='auto', help='as train.py'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='of trainings; a head is always re-trained in one process',
    )
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        metavar='N',
        help='of a training, with a launcher',
    )
    parser.add_argument('--partition', metavar='NAME', help='of SLURM')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='print jobs and commands; with --launcher slurm, lines for job arrays',
    )
    parser.add_argument(
        '--job', type=int, metavar='N', help='run only the job of this number'
    )
    parser.add_argument(
        '--report-only', action='store_true', help='run nothing, write what there is'
    )
    parser.add_argument(
        '--drawings',
        type=int,
        default=1000,
        metavar='N',
        help='of the bootstrap over images; 0 for none (default: 1000)',
    )
    parser.add_argument('--confidence', type=float, default=0.95, help='of intervals')
    args = parser.parse_args(argv)
    _check(args)
    return args


def _check(args: argparse.Namespace) -> None:
    for name in ('seeds', 'gpus'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ToolError(f'--{name} must be at least 1, got {value}')
    if args.drawings and args.drawings < 20:
        raise ToolError(f'--drawings must be 0 or at least 20, got {args.drawings}')
    if not 0 < args.confidence < 1:
        raise ToolError(f'--confidence must be in (0, 1), got {args.confidence}')
    if args.launcher == 'none' and args.gpus > 1:
        raise ToolError('--gpus needs --launcher pytorch or slurm')
    if args.launcher == 'slurm' and not args.dry_run and args.partition is None:
        raise ToolError('--launcher slurm needs --partition NAME')
    if args.data_root is not None and not args.data_root.is_dir():
        raise ToolError(f'data folder not found: {args.data_root}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run, report; returns the exit code, 1 when a row failed."""
    failed: list = []

    @command_line
    def run(argv: Sequence[str]) -> None:
        failed.extend(reproduce(parse_args(argv), argv))

    return run(argv) or (1 if failed else 0)


def reproduce(args: argparse.Namespace, argv: Sequence[str]) -> list:
    """Do what the command line says; returns the jobs that failed."""
    from mmdet_imbalance.reproduction.commands import Launch
    from mmdet_imbalance.reproduction.jobs import with_needs
    from mmdet_imbalance.reproduction.plan import Request, plan_table
    from mmdet_imbalance.reproduction.table_file import read_table

    table = read_table(table_path(args.table))
    options = ['--amp'] * args.amp + ['--auto-scale-lr'] * args.auto_scale_lr
    plan = plan_table(
        Request(
            table=table,
            scale=args.scale,
            seeds=table.seeds if args.seeds is None else tuple(range(args.seeds)),
            out=args.out,
            data_root=args.data_root,
            settings=args.settings,
            rows=args.rows,
            protocol=args.protocol,
            checkpoint=args.checkpoint,
            train_options=options,
        )
    )
    jobs = with_needs(plan.selected())
    launch = Launch(TOOLS, args.launcher, args.gpus, args.device, args.partition)
    if args.dry_run:
        show(jobs, launch, args, argv)
        return []
    if args.job is not None:
        if not 0 <= args.job < len(jobs):
            raise ToolError(f'--job must be in 0 .. {len(jobs) - 1}, got {args.job}')
        chosen = jobs[args.job]
        jobs = with_needs([chosen])
    failed = []
    if not args.report_only:
        check_data(jobs)
    try:
        if not args.report_only:
            failed = run_jobs(jobs, launch)
    finally:
        # A job of an array writes no table: others are still at work.
        if args.job is None:
            write_report(plan, args)
    return failed


def table_path(name: str) -> Path:
    """Path of a table file."""
    if name.endswith(('.yml', '.yaml')):
        return find_config(name)
    try:
        return find_config(f'configs/tables/{name}.yml')
    except ToolError:
        folder = find_config('configs/tables/soft_balance.yml').parent
        known = sorted(path.stem for path in folder.glob('*.yml'))
        raise ToolError(f'no table {name!r}, only {", ".join(known)}') from None


def check_data(jobs: Sequence) -> None:
    """Say at once that data are absent, not once for each row."""
    for job in jobs:
        if job.data_root is not None and not job.data_root.is_dir():
            raise ToolError(
                f'{job.label}: data folder not found: {job.data_root} (--data-root DIR '
                'holds a folder for each data set; --settings NAME leaves others out)'
            )


def show(jobs: Sequence, launch, args, argv: Sequence[str]) -> None:
    """Print what would be run."""
    from mmdet_imbalance.reproduction.commands import checkpoint_of, shell_line
    from mmdet_imbalance.reproduction.slurm import array_lines

    if args.launcher == 'slurm':
        own = _without(argv, {'--launcher': 1, '--gpus': 1, '--partition': 1})
        own = [word for word in own if word != '--dry-run']
        command = [sys.executable, str(TOOLS / 'reproduce.py'), *own]
        print('\n'.join(array_lines(jobs, command, args.gpus, args.partition)))
        return
    for number, job in enumerate(jobs):
        print(f'# job {number}: {job.label}, seed {job.seed}: {job.state}')
        if job.missing is not None:
            print(f'#   {job.missing}')
        elif job.state != 'finished':
            checkpoint = checkpoint_of(job)
            if checkpoint is None and job.stock is not None:
                checkpoint = job.stock.work_dir / 'CHECKPOINT'
            print(shell_line(launch.command(job, checkpoint)))


def _without(argv: Sequence[str], options: dict[str, int]) -> list[str]:
    """Words of a command line without some options and their values."""
    kept, skip = [], 0
    for word in argv:
        name, given, _ = word.partition('=')
        if skip:
            skip -= 1
        elif name in options:
            skip = 0 if given else options[name]
        else:
            kept.append(word)
    return kept


def run_jobs(jobs: Sequence, launch) -> list:
    """Run what is unfinished; returns what failed."""
    from mmdet_imbalance.reproduction.progress import Progress
    from mmdet_imbalance.reproduction.running import Runner

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # A scheduler ends a job with SIGTERM; its process must be ended, too.
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with Progress(jobs) as progress:
            return Runner(launch, progress).run(jobs)
    finally:
        signal.signal(signal.SIGTERM, before)


def write_report(plan, args) -> None:
    """Write Markdown, CSV and figure, and print the Markdown."""
    from mmdet_imbalance.core.atomic_write import write_text_atomically
    from mmdet_imbalance.reproduction.plot import plot_table
    from mmdet_imbalance.reproduction.report import csv, markdown
    from mmdet_imbalance.reproduction.summary import summarise

    summaries = summarise(plan, args.drawings, args.confidence)
    suffix = f'-{args.protocol}' if args.protocol else ''
    stem = f'{plan.request.table.name}.{plan.request.scale}{suffix}'
    text = markdown(plan, summaries, args.confidence)
    write_text_atomically(args.out / f'{stem}.md', text)
    write_text_atomically(args.out / f'{stem}.csv', csv(plan, summaries))
    plot_table(args.out / f'{stem}.png', plan, summaries)
    print(text)
    print(f'written: {args.out / stem}.md, .csv, .png')


if __name__ == '__main__':
    sys.exit(main())
