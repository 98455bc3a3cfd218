"""Compare detectors figure by figure, and say where a difference is within noise."""

import json
import sys
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from mmdet_imbalance.cli.errors import ToolError, command_line, tool_parser


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Differences of every figure with bootstrap intervals over images, and over '
        'runs where a detector has several. A metric with outfile_prefix=PREFIX writes '
        'the results files.',
        'python tools/compare.py stock=work_dirs/stock/seed*/results.bbox.json '
        'ours=work_dirs/ours/seed*/results.bbox.json',
    )
    parser.add_argument(
        'results',
        nargs='+',
        metavar='[NAME=]FILES',
        help='a results file (*.bbox.json), or a folder or a quoted pattern with one '
        'for each run; files of one NAME are runs of one detector; the first '
        'detector is the baseline',
    )
    parser.add_argument('--ann-file', metavar='FILE', help='annotation of all results')
    parser.add_argument('--num-drawings', type=int, default=1000, metavar='N')
    parser.add_argument('--confidence', type=float, default=0.95)
    parser.add_argument('--seed', type=int, default=0, help='of the drawings')
    parser.add_argument('--classwise', action='store_true', help='each class, too')
    parser.add_argument('--out', metavar='FILE', help='write .md, .csv or .json')
    args = parser.parse_args(argv)
    files = _files_by_name(args.results)
    if len(files) < 2:
        raise ToolError(
            'nothing to compare: name two detectors, e.g. stock=A.bbox.json '
            'ours=B.bbox.json'
        )
    if args.out is not None and Path(args.out).suffix not in _WRITERS:
        raise ToolError(f'--out must end in {", ".join(_WRITERS)}, got {args.out}')

    from mmdet_imbalance.core.atomic_write import write_text_atomically
    from mmdet_imbalance.evaluation.comparison import (
        Comparison,
        check_same_ground_truth,
    )
    from mmdet_imbalance.evaluation.results_file import read_results_pair

    gt, runs = None, {}
    for name, paths in files.items():
        for path in paths:
            own, detections = read_results_pair(path, args.ann_file)
            if gt is not None:
                check_same_ground_truth(gt, own, path)
            gt = gt or own
            runs.setdefault(name, []).append(detections)
    comparison = Comparison(
        gt, runs, args.num_drawings, args.seed, args.confidence, args.classwise
    )
    texts = []
    for name in comparison.names[1:]:
        differences = comparison.differences(name)
        title = f'{name} against {comparison.names[0]}'
        texts.append((title, differences))
        print(_WRITERS['.md']([(title, differences)], args.confidence))
    num_runs = {name: len(some) for name, some in runs.items()}
    print(f'{len(gt.images)} images, {args.num_drawings} drawings, runs: {num_runs}')
    if min(num_runs.values()) < 2:
        print(
            'A detector has a single run: the noise of training is not in the '
            'intervals. Train with other seeds before you believe a small difference.'
        )
    if args.out is not None:
        text = _WRITERS[Path(args.out).suffix](texts, args.confidence)
        write_text_atomically(args.out, text + '\n')
        print(f'written: {args.out}')


def _files_by_name(arguments: Sequence[str]) -> dict[str, list[str]]:
    files = {}
    for argument in arguments:
        name, given, pattern = argument.rpartition('=')
        if Path(pattern).is_dir():
            found = sorted(glob(f'{pattern}/**/*.bbox.json', recursive=True))
        else:
            found = sorted(glob(pattern))
        if not found:
            raise ToolError(f'no results file at {pattern} (expected *.bbox.json)')
        files.setdefault(name if given else pattern, []).extend(found)
    return files


def _rows(differences):
    for d in differences:
        seeds = d.seed_interval or (float('nan'), float('nan'))
        yield [d.figure, d.baseline, d.other, d.difference, *d.image_interval, *seeds]


def _markdown(tables, confidence):
    from mmdet_imbalance.evaluation.tables import markdown_table

    percent = f'{100 * confidence:g} %'
    header = ['figure', 'baseline', 'other', 'difference', f'images, {percent}']
    header += [f'runs, {percent}', 'verdict']
    parts = []
    for title, differences in tables:
        rows = []
        for d in differences:
            intervals = [
                '-' if i is None else f'{100 * i[0]:+.1f} .. {100 * i[1]:+.1f}'
                for i in (d.image_interval, d.seed_interval)
            ]
            values = [100 * d.baseline, 100 * d.other]
            shown = [f'{v:.1f}' if v == v else '-' for v in values]
            moved = (
                f'{100 * d.difference:+.1f}' if d.difference == d.difference else '-'
            )
            verdict = d.verdict
            if d.seed_interval is None and verdict in ('better', 'worse'):
                # Another seed may turn it round.
                verdict += ' on these images'
            rows.append([d.figure, *shown, moved, *intervals, verdict])
        parts.append(f'### {title} (AP in percent)\n\n{markdown_table(header, rows)}\n')
    return '\n'.join(parts)


def _csv(tables, confidence):
    from mmdet_imbalance.evaluation.tables import csv_table

    header = ['comparison', 'figure', 'baseline', 'other', 'difference']
    header += ['images_low', 'images_high', 'runs_low', 'runs_high', 'verdict']
    rows = [
        [title, *row, d.verdict]
        for title, differences in tables
        for d, row in zip(differences, _rows(differences), strict=True)
    ]
    return csv_table(header, rows).rstrip('\n')


def _json(tables, confidence):
    def number(value):
        return None if value != value else value

    return json.dumps(
        {
            title: {
                d.figure: {
                    'baseline': number(d.baseline),
                    'other': number(d.other),
                    'difference': number(d.difference),
                    'image_interval': [number(v) for v in d.image_interval],
                    'seed_interval': d.seed_interval and list(d.seed_interval),
                    'confidence': confidence,
                    'verdict': d.verdict,
                }
                for d in differences
            }
            for title, differences in tables
        },
        indent=1,
    )


_WRITERS = {'.md': _markdown, '.csv': _csv, '.json': _json}


if __name__ == '__main__':
    sys.exit(main())
