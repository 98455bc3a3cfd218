"""Look at an annotation, say what is imbalanced, and write a config to begin with."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli import command_line, tool_parser
from mmdet_imbalance.cli.errors import ToolError


def parse_args(argv: Sequence[str] | None = None):
    """Options of the command line."""
    parser = tool_parser(
        'Read an annotation (COCO or LVIS JSON, Open Images box CSV), print what is '
        'imbalanced about it, and write a config that trains as it is, with reasons.',
        'python tools/recommend.py data/aquarium/train.json --val '
        'data/aquarium/val.json --image-root data/aquarium/images/train '
        '--val-image-root data/aquarium/images/validation --out aquarium.py\n'
        '  python tools/train.py aquarium.py',
    )
    parser.add_argument('annotation', type=Path, help='of the training images')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='CONFIG', help='.py file to write'
    )
    parser.add_argument('--val', type=Path, metavar='ANNOTATION')
    parser.add_argument(
        '--data-root',
        type=Path,
        metavar='DIR',
        help="folder that the config's paths begin at (default: the annotation's)",
    )
    parser.add_argument(
        '--image-root',
        type=Path,
        metavar='DIR',
        help='folder of the images (default: looked for beside the annotation)',
    )
    parser.add_argument(
        '--val-image-root', type=Path, metavar='DIR', help='of the validation images'
    )
    parser.add_argument(
        '--base', choices=['faster-rcnn', 'retinanet'], default='faster-rcnn'
    )
    parser.add_argument(
        '--backbone',
        choices=['efficientnet-lite0', 'r50'],
        default='efficientnet-lite0',
        help='efficientnet-lite0 trains on CPU; r50 wants a GPU',
    )
    parser.add_argument(
        '--hierarchy',
        metavar='FILE',
        help="class tree in the Open Images form, or 'wordnet' for LVIS categories",
    )
    parser.add_argument(
        '--ignore-supercategories',
        action='store_true',
        help='do not take the `supercategory` fields of a JSON for a class tree',
    )
    parser.add_argument(
        '--classes',
        type=Path,
        metavar='FILE',
        help='class descriptions of Open Images (`id,name`); needed for a CSV, and '
        'names the nodes of --hierarchy for a JSON',
    )
    parser.add_argument(
        '--image-labels', type=Path, metavar='FILE', help='*-human-imagelabels*.csv'
    )
    parser.add_argument(
        '--val-image-labels', type=Path, metavar='FILE', help='of the validation images'
    )
    return parser.parse_args(argv)


@command_line
def main(argv: Sequence[str]) -> None:
    """Print the profile and write the config."""
    args = parse_args(argv)
    if args.out.suffix != '.py':
        raise ToolError(f'--out must name a .py file, got {args.out}')
    if not args.out.absolute().parent.is_dir():
        raise ToolError(f'folder not found: {args.out.absolute().parent}')
    if args.data_root is not None and not args.data_root.is_dir():
        raise ToolError(f'data folder not found: {args.data_root}')

    from rich.console import Console

    from mmdet_imbalance.core.atomic_write import write_text_atomically
    from mmdet_imbalance.recommendation.config_text import config_text
    from mmdet_imbalance.recommendation.planning import make_plan
    from mmdet_imbalance.recommendation.report import print_profile, print_recipe

    try:
        plan, warnings = make_plan(args)
    except (FileNotFoundError, ValueError) as error:
        raise ToolError(str(error)) from error
    console = Console()
    print_profile(plan.profile, plan.kind, console)
    print_recipe(plan.recipe, console)
    for text in warnings:
        print(f'warning: {text}')
    write_text_atomically(args.out, config_text(plan))
    print(f'written: {args.out}')


if __name__ == '__main__':
    sys.exit(main())
