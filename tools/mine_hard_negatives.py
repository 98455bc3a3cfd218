"""Turn a trained model's confident false positives into explicit negatives."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli.errors import ToolError, command_line, tool_parser


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Mine confident detections that touch no object, from results on the training '
        'set (tools/test.py with test_evaluator.outfile_prefix).',
        'python tools/mine_hard_negatives.py data/hdbpmn/train.json '
        'work_dirs/mining/train.bbox.json --out data/hdbpmn/hard_negatives.json',
    )
    parser.add_argument('annotation', help='COCO annotation of the training set')
    parser.add_argument('results', help='detections on it, COCO results (.bbox.json)')
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')
    parser.add_argument('--score-thr', type=float, default=0.5, help='lowest score')
    parser.add_argument(
        '--iou-thr', type=float, default=0.3, help='most overlap with any object'
    )
    parser.add_argument(
        '--max-per-image', type=int, default=20, help='most boxes of an image'
    )
    args = parser.parse_args(argv)
    if not Path(args.out).absolute().parent.is_dir():
        raise ToolError(f'folder not found: {Path(args.out).absolute().parent}')

    from mmdet_imbalance.evaluation.coco_file import read_coco
    from mmdet_imbalance.evaluation.hard_negatives import (
        hard_negatives,
        write_hard_negatives,
    )
    from mmdet_imbalance.evaluation.results_file import read_results

    gt = read_coco(args.annotation)
    detections = read_results(args.results, gt)
    found = hard_negatives(
        gt, detections, args.score_thr, args.iou_thr, args.max_per_image
    )
    write_hard_negatives(args.out, gt, found)
    images = len(set(found.image_index.tolist()))
    print(
        f'{len(found)} hard negatives on {images} of {len(gt.images)} images, from '
        f'{len(detections)} detections'
    )
    order = sorted(range(gt.num_classes), key=lambda c: -(found.labels == c).sum())
    for label in order[:10]:
        number = int((found.labels == label).sum())
        if number:
            print(f'  taken for {gt.class_names[label]}: {number}')
    print(f'written: {args.out}')


if __name__ == '__main__':
    sys.exit(main())
