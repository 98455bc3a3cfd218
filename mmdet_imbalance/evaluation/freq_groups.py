"""Which classes are rare, common or frequent, from the best source there is.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019,
https://arxiv.org/abs/1908.03195, section 5.

Shapes: C classes. Deviations: the thresholds are arguments, because ten images mean
something else in a dataset of 400 images.
"""

from collections.abc import Sequence

import numpy as np

from mmdet_imbalance.core.class_stats import ClassStats, freq_groups

GROUPS = ('r', 'c', 'f')
GROUP_NAMES = {'r': 'rare', 'c': 'common', 'f': 'frequent'}


def resolve_freq_group(
    class_names: Sequence[str],
    stats: ClassStats | None = None,
    annotated: np.ndarray | None = None,
    thresholds: Sequence[int] | None = None,
) -> np.ndarray | None:
    """Group of each class; statistics of the training set go before the annotation.

    Args:
        class_names: names of the C classes.
        stats: statistics of the training set.
        annotated: groups that the annotation states, shape (C,), '' for unknown.
        thresholds: the most training images of a rare and of a common class, to
            regroup the classes of `stats`; None keeps their own groups.

    Returns:
        'r', 'c', 'f' or '' (unknown) for each class, shape (C,); None without source.

    Raises:
        ValueError: `stats` are of other classes, or thresholds without counts.
    """
    if stats is not None:
        stats.check_classes(class_names)
        if thresholds is None:
            return stats.freq_group
        return freq_groups(stats.img_count, tuple(thresholds))
    if thresholds is not None:
        raise ValueError(
            '`freq_thresholds` needs the image counts of the training set: add '
            "dict(type='mmdet_imbalance.ClassStatsHook') to `custom_hooks` or write "
            "`class_stats='FILE'` (made by tools/class_stats.py)"
        )
    return annotated
