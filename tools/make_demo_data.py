"""Write the embedded demo data as PNGs, a COCO file and an Open Images tree."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli import command_line, tool_parser
from mmdet_imbalance.cli.errors import ToolError


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = tool_parser(
        'Write long-tailed pictures of glyphs for any tool that reads COCO files.',
        'python tools/make_demo_data.py --out data/glyphs_train --num-images 500 '
        '--annotate one --complete-fraction 0.3',
    )
    parser.add_argument('--out', required=True, help='folder to write, new or empty')
    parser.add_argument('--num-images', type=int, default=500)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--image-size', type=int, default=192, help='side, pixels')
    parser.add_argument(
        '--imbalance-factor',
        type=float,
        default=100.0,
        help='largest over smallest class frequency; 1 is balanced',
    )
    parser.add_argument(
        '--annotate',
        choices=['all', 'one'],
        default='all',
        help='all labels of an object (Latin A, Greek Alpha, ...), or one at random',
    )
    parser.add_argument(
        '--complete-fraction',
        type=float,
        default=0.0,
        help='with --annotate one: fraction of objects with all labels all the same',
    )
    parser.add_argument(
        '--label-noise', type=float, default=0.0, help='fraction of wrong labels'
    )
    return parser.parse_args(argv)


@command_line
def main(argv: Sequence[str]) -> None:
    """Render and write."""
    args = parse_args(argv)
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ToolError(f'--out {out} is not an empty folder')
    # The host is loaded after the arguments have been looked at: it takes seconds.
    from mmdet_imbalance.datasets.glyph_export import export_coco
    from mmdet_imbalance.datasets.glyphs import GlyphDataset

    dataset = GlyphDataset(
        num_images=args.num_images,
        seed=args.seed,
        image_size=args.image_size,
        imbalance_factor=args.imbalance_factor,
        annotate=args.annotate,
        complete_fraction=args.complete_fraction,
        label_noise=args.label_noise,
    )
    path = export_coco(dataset, out)
    print(f'{len(dataset)} images: {path} (classes: {out / "hierarchy.json"})')


if __name__ == '__main__':
    sys.exit(main())
