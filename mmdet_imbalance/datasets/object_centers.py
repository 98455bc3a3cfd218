"""Where in the image the objects of a dataset stand, whatever dataset it is.

Shapes: M pairs of an object and one of its labels. Deviations: none (no method of a
paper).
"""

from typing import Any

import numpy as np

from mmdet_imbalance.datasets.class_stats import distinct_images
from mmdet_imbalance.datasets.label_index import class_names

#: What says that a row is no object; the host's Challenge dataset has the plural.
IGNORE_FLAGS = ('ignore_flag', 'is_group_of', 'is_group_ofs')


def object_centers(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Centres of all annotated objects, without crowd and group-of boxes.

    Args:
        dataset: any detection dataset of the host or of this package; wrappers that
            repeat images are looked through.

    Returns:
        Fractions of width and height, shape (M, 2), and labels, shape (M,); an object
        with a label set is there once for each label.

    Raises:
        ValueError: an image whose size no record states.
    """
    dataset = distinct_images(dataset)
    num_classes = len(class_names(dataset) or ())
    centers, labels = [], []
    for index in range(len(dataset)):
        record = dataset.get_data_info(index)
        size = _size(record)
        table = record.get('label_sets')
        for row in record['instances']:
            if any(row.get(flag) for flag in IGNORE_FLAGS):
                continue
            x1, y1, x2, y2 = row['bbox']
            center = ((x1 + x2) / 2 / size[0], (y1 + y2) / 2 / size[1])
            own = [row['bbox_label']]
            if own[0] >= num_classes and table is not None:
                own = np.flatnonzero(table.multi_hot(np.array(own))[0]).tolist()
            centers += [center] * len(own)
            labels += own
    return (
        np.array(centers, dtype=np.float64).reshape(-1, 2),
        np.array(labels, dtype=np.int64),
    )


def _size(record: dict) -> tuple[float, float]:
    """Width and height in the units of the boxes."""
    if record.get('boxes_are_normalized'):
        return 1.0, 1.0
    width, height = record.get('width'), record.get('height')
    if not width or not height:
        raise ValueError(
            f'image {record.get("img_id")!r} has no `width` and `height`, so places in '
            'it cannot be compared with those in other images: add them to the '
            'annotation'
        )
    return float(width), float(height)
