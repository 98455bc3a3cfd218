"""Class statistics for tests, of any number of classes.

Shapes: C foreground classes. Deviations: none.
"""

import numpy as np

from mmdet_imbalance.core.class_stats import ClassStats


def demo_class_stats(
    num_classes: int, has_hierarchy: bool = True, order=None
) -> ClassStats:
    """A long tail in which class 1 is a class 0, and the last two share objects.

    Args:
        num_classes: number C of foreground classes.
        has_hierarchy: whether class 1 has class 0 for an ancestor (from C = 2 on).
        order: permutation of the classes; class k of the result is `order[k]`.
    """
    count = 4 * (num_classes - np.arange(num_classes)) ** 2
    pairs = np.zeros((num_classes, num_classes), dtype=np.int64)
    if num_classes > 3:
        pairs[-1, -2] = pairs[-2, -1] = 2
    ancestors = np.eye(num_classes, dtype=bool)
    if has_hierarchy and num_classes > 1:
        ancestors[1, 0] = True
    names = np.array([f'class {k}' for k in range(num_classes)])
    index = np.arange(num_classes) if order is None else np.asarray(order)
    pairs = pairs[index][:, index]
    ancestors = ancestors[index][:, index]
    rows, cols = np.nonzero(np.triu(pairs))
    return ClassStats(
        class_names=names[index].tolist(),
        img_count=count[index] // 2,
        instance_count=count[index],
        num_images=int(count.sum()),
        pair_rows=rows,
        pair_cols=cols,
        pair_values=pairs[rows, cols],
        ancestor_matrix=ancestors,
    )
