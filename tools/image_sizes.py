"""Index of image sizes for Open Images, from the headers of the files."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli.errors import ToolError, command_line, tool_parser

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
MOST_NAMED = 5


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    parser = tool_parser(
        'Read the sizes of images for `image_sizes_file` of '
        'OpenImagesMultiLabelDataset (aspect-ratio batching, min_size).',
        'python tools/image_sizes.py data/open_images/train --out data/sizes.csv',
    )
    parser.add_argument('folder', help='folder of the images')
    parser.add_argument('--out', required=True, metavar='FILE', help='index to write')
    parser.add_argument(
        '--ann-file',
        metavar='FILE',
        help='measure the images that this Open Images CSV names, not the folder',
    )
    parser.add_argument(
        '--img-suffix', default='.jpg', help='of the images that --ann-file names'
    )
    parser.add_argument('--workers', type=int, default=4, help='processes')
    parser.add_argument(
        '--skip-bad', action='store_true', help='leave out what cannot be read'
    )
    args = parser.parse_args(argv)
    folder, out = Path(args.folder), Path(args.out)
    if not folder.is_dir():
        raise ToolError(f'folder of images not found: {folder}')
    if not out.absolute().parent.is_dir():
        raise ToolError(f'folder not found: {out.absolute().parent}')
    if args.workers < 1:
        raise ToolError(f'--workers must be at least 1, got {args.workers}')
    paths = find_images(folder, args.ann_file, args.img_suffix)
    if not paths:
        raise ToolError(f'no image in {folder}')

    from tqdm import tqdm

    from mmdet_imbalance.datasets.image_sizes import measure_images, write_sizes

    rows, bad = [], []
    measured = measure_images(paths, args.workers)
    for path, size in tqdm(measured, total=len(paths), unit=' images'):
        if isinstance(size, str):
            bad.append(size)
        else:
            rows.append((Path(path).stem, *size))
    if bad:
        named = '; '.join(bad[:MOST_NAMED])
        more = f' and {len(bad) - MOST_NAMED} more' if len(bad) > MOST_NAMED else ''
        message = f'{len(bad)} of {len(paths)} images: {named}{more}'
        if not args.skip_bad:
            raise ToolError(f'{message} (--skip-bad leaves them out)')
        print(f'left out: {message}', file=sys.stderr)
    write_sizes(out, rows)
    print(f'written: {out} ({len(rows)} images)')


def find_images(folder: Path, ann_file: str | None, suffix: str) -> list[Path]:
    """Images of a folder, or those that an annotation names, each once."""
    if ann_file is None:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    from mmdet_imbalance.datasets.open_images_csv import CODES, codes_of, read_columns

    columns, _ = read_columns(ann_file, {'ImageID': CODES})
    _, names = codes_of(columns['ImageID'])
    return [folder / f'{name}{suffix}' for name in names.to_pylist()]


if __name__ == '__main__':
    sys.exit(main())
