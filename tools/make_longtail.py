"""Cut an annotation: long tail, partial annotation, replaced and noisy labels."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmdet_imbalance.cli import command_line, tool_parser
from mmdet_imbalance.cli.errors import ToolError


def parse_args(argv: Sequence[str]):
    """Options of the command line."""
    parser = tool_parser(
        'Cut a COCO or Open Images annotation as papers on imbalance do. Steps run in '
        'the order of the options below, each from its own stream of the seed.',
        'python tools/make_longtail.py train.json --out train-lt100.json '
        '--imbalance-factor 100 --seed 0',
    )
    parser.add_argument('annotation', type=Path, help='COCO .json or Open Images .csv')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--imbalance-factor',
        type=float,
        metavar='F',
        help='exponential profile with largest over smallest count F',
    )
    parser.add_argument(
        '--surplus',
        choices=['images', 'ignore', 'drop'],
        default='images',
        help='what goes: whole images (default), boxes that become regions to ignore, '
        'or boxes, which leaves un-annotated objects',
    )
    parser.add_argument(
        '--keep-one-label',
        action='store_true',
        help='of the labels on one box keep one at random',
    )
    parser.add_argument(
        '--replace-by-parent',
        type=float,
        metavar='P',
        help='replace a label by its parent with probability P; needs --hierarchy',
    )
    parser.add_argument(
        '--hierarchy', type=Path, metavar='FILE', help='tree in the Open Images form'
    )
    parser.add_argument(
        '--label-noise',
        type=float,
        metavar='P',
        help='replace a label by any other class with probability P',
    )
    partial = parser.add_mutually_exclusive_group()
    partial.add_argument(
        '--fpc',
        type=int,
        metavar='N',
        help='annotate each class on N images with it and N without it',
    )
    partial.add_argument(
        '--rpa',
        type=float,
        metavar='P',
        help='drop the annotation of each class of each image with probability P',
    )
    return parser.parse_args(argv)


@command_line
def main(argv: Sequence[str]) -> None:
    """Run the tool with the arguments `argv`."""
    args = parse_args(argv)
    if args.replace_by_parent is not None and args.hierarchy is None:
        raise ToolError('--replace-by-parent needs --hierarchy FILE')
    if not args.out.absolute().parent.is_dir():
        raise ToolError(f'folder not found: {args.out.absolute().parent}')
    if args.out.is_dir():
        raise ToolError(f'--out must be a file, got the folder {args.out}')
    if args.seed < 0:
        raise ToolError(f'--seed must not be negative, got {args.seed}')
    if args.out.absolute() == args.annotation.absolute():
        raise ToolError('--out would overwrite the annotation; name another file')

    from mmdet_imbalance.core.annotation_files import read_annotation

    try:
        file = read_annotation(args.annotation)
        cut = make_cut(file, args)
        written = file.write(args.out, cut)
    except (FileNotFoundError, ValueError) as error:
        raise ToolError(str(error)) from error
    print(report(file, cut))
    for path in written:
        print(f'written: {path}')


def make_cut(file, args):
    """What to keep, by the options; steps draw from streams of their own."""
    import numpy as np

    from mmdet_imbalance.core import annotation_cuts as cuts
    from mmdet_imbalance.core.annotation_files import AnnotationCut, direct_parents
    from mmdet_imbalance.core.hierarchy import ClassHierarchy

    streams = np.random.default_rng(args.seed).spawn(5)
    num_classes, num_images = len(file.class_names), len(file.image_ids)
    objects = ~file.ignored
    cut = AnnotationCut(
        keep_images=np.ones(num_images, dtype=bool),
        keep_rows=np.ones(len(file.label), dtype=bool),
        ignore_rows=np.zeros(len(file.label), dtype=bool),
        labels=file.label.copy(),
    )
    if args.imbalance_factor is not None:
        counts = np.bincount(file.label[objects], minlength=num_classes)
        targets = cuts.long_tailed_counts(counts, args.imbalance_factor)
        if args.surplus == 'images':
            cut.keep_images = cuts.choose_images(
                file.image[objects],
                file.label[objects],
                num_images,
                targets,
                streams[0],
            )
            cut.keep_rows = cut.keep_images[file.image]
        else:
            surplus = objects.copy()
            surplus[objects] = ~cuts.choose_rows(
                file.label[objects], targets, streams[0]
            )
            if args.surplus == 'ignore':
                cut.ignore_rows = surplus
            else:
                cut.keep_rows = ~surplus
    if args.keep_one_label:
        cut.keep_rows &= cuts.keep_one_label(file.image, file.boxes, streams[1])
    if args.replace_by_parent is not None:
        hierarchy = ClassHierarchy.from_open_images_json(args.hierarchy)
        parents = direct_parents(file.class_names, hierarchy)
        if not any(parents):
            raise ToolError(
                f'{args.hierarchy}: no class of the annotation has its parent among '
                'the annotated classes'
            )
        cut.labels = cuts.replace_by_parent(
            cut.labels, parents, args.replace_by_parent, streams[2]
        )
    if args.label_noise is not None:
        cut.labels = cuts.noisy_labels(
            cut.labels, num_classes, args.label_noise, streams[3]
        )
    if args.fpc is not None or args.rpa is not None:
        present = file.presence(cut.keep_rows & objects, cut.labels)
        if args.fpc is not None:
            cut.annotated = cuts.fixed_per_class(present, args.fpc, streams[4])
        else:
            cut.annotated = cuts.random_per_annotation(
                present.shape, args.rpa, streams[4]
            )
        cut.keep_rows &= cut.annotated[file.image, cut.labels]
    return cut


def report(file, cut) -> str:
    """Table of what was there and what is left, by class."""
    import numpy as np

    num = len(file.class_names)
    objects = ~file.ignored
    left = cut.keep_rows & ~cut.ignore_rows & objects
    before = np.bincount(file.label[objects], minlength=num)
    after = np.bincount(cut.labels[left], minlength=num)
    lines = [f'{"class":<32} {"boxes":>9} {"left":>9}']
    for k in np.argsort(-before, kind='stable'):
        lines.append(f'{file.class_names[k]:<32.32} {before[k]:>9} {after[k]:>9}')
    relabelled = int((cut.labels != file.label)[cut.keep_rows].sum())
    lines.append(f'{"all":<32} {before.sum():>9} {after.sum():>9}')
    to_ignore = int((cut.ignore_rows & cut.keep_rows).sum())
    lines.append(
        f'images {len(file.image_ids)} -> {int(cut.keep_images.sum())}; '
        f'boxes to ignore {to_ignore}; relabelled {relabelled}'
    )
    filled = after[after > 0]
    if filled.size:
        lines.append(f'imbalance factor {filled.max() / filled.min():.1f}')
    if cut.annotated is not None:
        lines.append(
            f'annotated {100 * cut.annotated[cut.keep_images].mean():.1f} % of the '
            'image-class entries'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
