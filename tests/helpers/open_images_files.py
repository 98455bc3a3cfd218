"""Small files in the official forms of Open Images."""

import csv
import json
from pathlib import Path

HEADER = (
    'ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,'
    'IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside'
)
CLASSES = {'/m/a': 'Animal', '/m/d': 'Dog', '/m/t': 'Toy', '/m/c': 'Car'}
#: Dog < Animal; the root is no class.
TREE = {
    'LabelName': '/m/root',
    'Subcategory': [
        {'LabelName': '/m/a', 'Subcategory': [{'LabelName': '/m/d'}]},
        {'LabelName': '/m/t'},
        {'LabelName': '/m/c'},
    ],
}


def line(image, mid, x1=0.1, y1=0.2, x2=0.5, y2=0.6, group=0) -> str:
    """One row of a box file."""
    return f'{image},xclick,{mid},1,{x1},{x2},{y1},{y2},-1,0,{group},0,1'


def write_files(folder: Path, lines, facts=None) -> dict:
    """Write box, class, hierarchy and perhaps image-level files; returns arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'boxes.csv').write_text('\n'.join([HEADER, *lines]) + '\n')
    with open(folder / 'classes.csv', 'w', newline='') as file:
        csv.writer(file).writerows(CLASSES.items())
    (folder / 'tree.json').write_text(json.dumps(TREE))
    arguments = dict(
        ann_file=str(folder / 'boxes.csv'),
        label_file=str(folder / 'classes.csv'),
        hierarchy_file=str(folder / 'tree.json'),
        cache_dir=str(folder / 'cache'),
    )
    if facts is not None:
        text = '\n'.join(['ImageID,Source,LabelName,Confidence', *facts]) + '\n'
        (folder / 'facts.csv').write_text(text)
        arguments['image_level_ann_file'] = str(folder / 'facts.csv')
    return arguments
