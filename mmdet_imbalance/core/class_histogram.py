"""Class frequencies as text.

Shapes: C classes.
"""

import numpy as np

from mmdet_imbalance.core.class_stats import ClassStats

GROUP_NAMES = {'f': 'frequent', 'c': 'common', 'r': 'rare'}
BAR_WIDTH = 40
LONGEST_NAME = 28


def summary(stats: ClassStats, num_named: int = 3) -> str:
    """A few lines for a log: sizes, groups, the ends of the distribution."""
    lines = [
        f'class statistics: {stats.num_images} images, '
        f'{int(stats.instance_count.sum())} labels, {stats.num_classes} classes, '
        f'imbalance factor {number(stats.imbalance_factor())}'
    ]
    for group, name in GROUP_NAMES.items():
        num = int((stats.freq_group == group).sum())
        lines.append(f'  {name:8} {num:5} classes')
    order = by_count(stats)
    head, tail = order[:num_named], order[num_named:][-num_named:]
    for name, labels in (('most', head), ('fewest', tail)):
        shown = (f'{stats.class_names[k]} {stats.instance_count[k]}' for k in labels)
        lines.append(f'  {name}: {", ".join(shown) or "none"}')
    absent = np.flatnonzero(stats.img_count == 0)
    if len(absent):
        names = ', '.join(stats.class_names[k] for k in absent[:num_named])
        more = '' if len(absent) <= num_named else ', ...'
        lines.append(f'  {len(absent)} classes without images: {names}{more}')
    return '\n'.join(lines)


def text_histogram(stats: ClassStats, max_rows: int = 40) -> str:
    """One bar a class, most frequent first, on a logarithmic scale.

    Args:
        stats: what to show.
        max_rows: most bars; of more classes, as many of the head as of the tail.
    """
    if max_rows < 2:
        raise ValueError(f'`max_rows` must be at least 2, got {max_rows}')
    order = by_count(stats)
    width = min(max((len(n) for n in stats.class_names), default=5), LONGEST_NAME)
    most = np.log1p(stats.instance_count.max(initial=1))
    half = max_rows // 2
    lines = [summary(stats), '']
    lines.append(f'{"class":{width}}  {"group"}  {"images":>8}  {"objects":>9}')
    for row, k in enumerate(order):
        if len(order) > max_rows and half <= row < len(order) - half:
            if row == half:
                lines.append(f'... {len(order) - 2 * half} more classes')
            continue
        filled = np.log1p(stats.instance_count[k]) / most * BAR_WIDTH
        lines.append(
            f'{short(stats.class_names[k], width):{width}}  '
            f'{stats.freq_group[k]:^5}  {stats.img_count[k]:8}  '
            f'{stats.instance_count[k]:9}  {"#" * int(np.ceil(filled))}'.rstrip()
        )
    return '\n'.join(lines)


def by_count(stats: ClassStats) -> np.ndarray:
    """Labels, most objects first; ties in label order."""
    return np.argsort(-stats.instance_count, kind='stable')


def number(value: float) -> str:
    """Four digits; nan in words."""
    return 'undefined' if np.isnan(value) else f'{value:.4g}'


def short(name: str, width: int) -> str:
    """A name cut to `width` letters."""
    return name if len(name) <= width else name[: width - 1] + '~'
