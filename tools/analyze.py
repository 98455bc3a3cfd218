"""Report on detectors by class frequency: one HTML page, PNG files, tables."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli.errors import ToolError, command_line, tool_parser


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Tables and pictures of what a detector finds, by class frequency: AP, errors '
        'by type, calibration, confusion, images of rare classes. A metric with '
        'outfile_prefix=PREFIX writes the results files.',
        'python tools/analyze.py stock=work_dirs/stock/results.bbox.json '
        'ours=work_dirs/ours/results.bbox.json --out report',
    )
    parser.add_argument('results', nargs='+', metavar='[NAME=]FILE', help='*.bbox.json')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--ann-file', metavar='FILE', help='annotation of all results')
    parser.add_argument(
        '--class-stats',
        metavar='FILE',
        help='of the training set, if not in the results',
    )
    parser.add_argument(
        '--freq-thresholds', nargs=2, type=int, metavar=('RARE', 'COMMON')
    )
    parser.add_argument('--image-root', metavar='DIR', help='folder of the images')
    parser.add_argument('--score-thr', type=float, default=0.3, help='in the pictures')
    args = parser.parse_args(argv)
    if args.freq_thresholds and not args.class_stats:
        raise ToolError('--freq-thresholds needs --class-stats FILE')

    from dataclasses import replace

    from mmdet_imbalance.core.class_stats import ClassStats
    from mmdet_imbalance.evaluation.analysis import Analysis
    from mmdet_imbalance.evaluation.comparison import check_same_ground_truth
    from mmdet_imbalance.evaluation.freq_groups import resolve_freq_group
    from mmdet_imbalance.evaluation.report import write_report
    from mmdet_imbalance.evaluation.results_file import (
        annotation_of,
        read_class_facts,
        read_results_pair,
    )

    stats = ClassStats.load(args.class_stats) if args.class_stats else None
    analyses = []
    for name, path in _named(args.results):
        gt, detections = read_results_pair(path, args.ann_file)
        facts = read_class_facts(args.ann_file or annotation_of(path), gt)
        if stats is not None:
            stats = _in_order_of(stats, gt)
            group = resolve_freq_group(
                gt.class_names, stats, thresholds=args.freq_thresholds
            )
            gt = replace(gt, freq_group=group)
            facts = facts._replace(
                img_count=stats.img_count, instance_count=stats.instance_count
            )
        if analyses:
            check_same_ground_truth(analyses[0].gt, gt, path)
        analyses.append(Analysis(name, gt, detections, facts))
    print(
        f'written: {write_report(analyses, args.out, args.image_root, args.score_thr)}'
    )


def _named(results):
    """Name and path of each result; the folder tells files of one name apart."""
    parts = [argument.rpartition('=') for argument in results]
    stems = [Path(path).name.removesuffix('.bbox.json') for _, _, path in parts]
    found = [
        name or (stem if stems.count(stem) == 1 else f'{Path(path).parent.name}/{stem}')
        for (name, _, path), stem in zip(parts, stems, strict=True)
    ]
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise ToolError(f'two results are called {twice!r}: write NAME=FILE')
    return [(name, path) for name, (_, _, path) in zip(found, parts, strict=True)]


def _in_order_of(stats, gt):
    """Statistics with the classes in the order of an annotation."""
    from mmdet_imbalance.core.class_stats import ClassStats

    if set(stats.class_names) != set(gt.class_names):
        stats.check_classes(gt.class_names)
    order = [stats.class_names.index(name) for name in gt.class_names]
    return ClassStats(
        class_names=gt.class_names,
        img_count=stats.img_count[order],
        instance_count=stats.instance_count[order],
        num_images=stats.num_images,
        freq_group=stats.freq_group[order],
    )


if __name__ == '__main__':
    sys.exit(main())
