"""From the options of `tools/recommend.py` to a plan: files found, classes compared."""

import argparse
import json
import os.path as osp
from pathlib import Path
from typing import Any

import numpy as np

from mmdet_imbalance.core.atomic_write import write_text_atomically
from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.recommendation.plan import ConfigPlan, DataFiles, relative
from mmdet_imbalance.recommendation.profile import make_profile
from mmdet_imbalance.recommendation.rules import recommend
from mmdet_imbalance.recommendation.source import (
    AnnotationSource,
    read_source,
    supercategory_hierarchy,
)

#: Where images often lie, seen from their annotation.
IMAGE_FOLDERS = ('', 'images', 'images/{stem}', '{stem}', '../images', '../{stem}')
NUM_EPOCHS = {'efficientnet-lite0': 10, 'r50': 12}


def make_plan(args: argparse.Namespace) -> tuple[ConfigPlan, list[str]]:
    """Read everything the options name and decide.

    Args:
        args: options of the tool.

    Returns:
        The plan, and warnings for the user.

    Raises:
        FileNotFoundError: a named file is missing.
        ValueError: a file is broken, or two of them do not fit.
    """
    warnings: list[str] = []
    train = read_source(args.annotation, args.classes, args.image_labels)
    if train.num_left_out:
        warnings.append(
            f'{train.num_left_out} annotations of {train.path} have no area inside '
            'their image: a training leaves them out, and so do these figures'
        )
    matrix, tree = _hierarchy(train, args, warnings)
    profile = make_profile(train, matrix)
    if not profile.num_related:
        tree = {}
    recipe = recommend(profile, args.base, train.kind, NUM_EPOCHS[args.backbone])
    if not profile.num_related and matrix is not None:
        recipe.notes.append(
            'no annotated class stands above another one in the hierarchy: it changes '
            'nothing (ClassHierarchyDataset(add_ancestor_classes=True) would detect '
            'its inner nodes, too)'
        )
    if profile.num_related and args.hierarchy is None:
        recipe.notes.append(
            'the class tree is that of the `supercategory` fields; '
            '--ignore-supercategories leaves it out'
        )
    root = args.data_root or args.annotation.parent
    val = None
    needs_own_reader = train.needs_own_reader
    if args.val is not None:
        val_source = read_source(args.val, args.classes, args.val_image_labels)
        _check_classes(profile.stats.class_names, train, val_source)
        # The host numbers classes in the order of each file, ours by their names.
        known = set(train.class_names)
        order = [name for name in val_source.class_names if name in known]
        needs_own_reader |= val_source.needs_own_reader or order != train.class_names
        images = args.val_image_root or args.image_root
        val = _files(val_source, images, args.val_image_labels, root, warnings)
    plan = ConfigPlan(
        profile=profile,
        recipe=recipe,
        kind=train.kind,
        base=args.base,
        backbone=args.backbone,
        data_root=relative(root, '.') + '/',
        train=_files(train, args.image_root, args.image_labels, root, warnings),
        val=val,
        class_file=relative(args.classes, root) if args.classes else None,
        tree=_placed(tree, train, args, root),
        needs_own_reader=needs_own_reader,
        title=[
            f'Written by tools/recommend.py from {relative(args.annotation, ".")} '
            f'({train.kind}).',
            *(f'Note: {note}.' for note in recipe.notes),
        ],
    )
    return plan, warnings


def _hierarchy(
    source: AnnotationSource, args: argparse.Namespace, warnings: list[str]
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Ancestors among the classes, and how a dataset is told of them."""
    nodes = source.nodes
    if args.hierarchy is not None:
        if args.hierarchy == 'wordnet':
            from mmdet_imbalance.datasets.lvis import WORDNET_TREE

            tree = ClassHierarchy.from_open_images_json(WORDNET_TREE)
        else:
            tree = ClassHierarchy.from_open_images_json(args.hierarchy)
        # A name that stands in the tree itself wins over a synset or a description.
        nodes = [
            name if name in tree else node
            for name, node in zip(source.class_names, nodes, strict=True)
        ]
        settings: dict[str, Any] = {'hierarchy_file': args.hierarchy}
    else:
        tree = None
        if not args.ignore_supercategories:
            tree = supercategory_hierarchy(source)
        if tree is None:
            return None, {}
        nodes, settings = source.class_names, {'edges': source.supercategories}
    unknown = [node for node in nodes if node not in tree]
    if len(unknown) == len(nodes):
        tree.check_names(nodes)
    if unknown:
        warnings.append(
            f'{len(unknown)} of {len(nodes)} classes are not in {tree.source}: '
            f'{", ".join(unknown[:5])}'
        )
        settings['allow_unknown'] = True
    renamed = {
        name: node
        for name, node in zip(source.class_names, nodes, strict=True)
        if name != node and node in tree
    }
    if len({*renamed.values()}) < len(renamed):
        raise ValueError(f'{tree.source}: two classes stand for the same node')
    if renamed:
        settings['name_map'] = renamed
    return tree.ancestor_matrix(nodes, allow_unknown=True), settings


def _placed(
    tree: dict[str, Any],
    source: AnnotationSource,
    args: argparse.Namespace,
    root: Path,
) -> dict[str, Any]:
    """Settings of the hierarchy with paths that the config can use."""
    if not tree:
        return {}
    tree = dict(tree)
    if 'edges' in tree:
        path = args.out.with_name(f'{args.out.stem}_hierarchy.json')
        write_text_atomically(path, json.dumps(_open_images_form(tree.pop('edges'))))
        tree = {'hierarchy_file': relative(path, '.'), **tree}
    elif source.kind == 'open_images':
        # Its ids are the nodes.
        return {'hierarchy_file': relative(tree['hierarchy_file'], root)}
    elif tree['hierarchy_file'] == 'wordnet':
        if 'allow_unknown' in tree or source.kind != 'lvis':
            raise ValueError(
                '--hierarchy wordnet is for the categories of LVIS; for others write '
                'a tree with tools/wordnet_tree.py'
            )
        # Its reader knows the synsets.
        return {'hierarchy_file': 'wordnet'}
    else:
        tree['hierarchy_file'] = relative(tree['hierarchy_file'], root)
    return tree


def _open_images_form(edges: list[tuple[str, str]]) -> dict[str, Any]:
    """Nested nodes of (child, parent) pairs; several parents, several places."""
    children: dict[str, list[str]] = {}
    for child, parent in edges:
        children.setdefault(parent, []).append(child)
    below = {child for child, _ in edges}

    def node(name: str) -> dict[str, Any]:
        inner = [node(child) for child in children.get(name, [])]
        return {'LabelName': name, **({'Subcategory': inner} if inner else {})}

    roots = [name for name in children if name not in below]
    return {'Subcategory': [node(name) for name in roots]}


def _files(
    source: AnnotationSource,
    image_root: Path | None,
    image_labels: Path | None,
    root: Path,
    warnings: list[str],
) -> DataFiles:
    if image_root is not None and not image_root.is_dir():
        raise FileNotFoundError(f'image folder not found: {image_root}')
    folder = image_root or _find_images(source)
    first = source.file_names[0] if source.file_names else None
    if folder is None:
        warnings.append(
            f'no image of {source.path} was found beside it: name their folder with '
            '--image-root'
        )
        folder = source.path.parent
    elif first is not None and not (folder / first).is_file():
        warnings.append(f'{folder} has no image {first}')
    images = relative(folder, root)
    return DataFiles(
        ann_file=relative(source.path, root),
        images='' if images == '.' else images + '/',
        image_labels=relative(image_labels, root) if image_labels else None,
    )


def _find_images(source: AnnotationSource) -> Path | None:
    if not source.file_names:
        return None
    for pattern in IMAGE_FOLDERS:
        folder = source.path.parent / pattern.format(stem=source.path.stem)
        if (folder / source.file_names[0]).is_file():
            return Path(osp.normpath(folder))
    return None


def _check_classes(
    names: list[str], train: AnnotationSource, val: AnnotationSource
) -> None:
    """The host drops classes that a file lacks, and numbers the others anew."""
    if (train.kind == 'open_images') != (val.kind == 'open_images'):
        raise ValueError(f'{val.path} has another format than {train.path}')
    missing = [name for name in names if name not in val.class_names]
    if missing:
        raise ValueError(
            f'{val.path} lacks {len(missing)} categories of {train.path}: '
            f'{", ".join(missing[:5])}. List them there, boxes or not'
        )
