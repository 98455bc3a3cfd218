"""A table in words of what the epochs show: by thirds of the classes, and by class.

Shapes: C classes, E epochs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

#: Phases that fit a line of the table by class.
MAX_PHASES = 4


class EpochTable(NamedTuple):
    """Images and boxes of each class that the epochs show.

    Attributes:
        epochs: numbers of the epochs, E of them.
        images: images that bear the class, shape (E, C).
        boxes: shape (E, C).
        entries: images that an epoch shows in all, shape (E,).
        is_counted: whether one drawn epoch was counted, and no expectation computed.
    """

    epochs: tuple[int, ...]
    images: np.ndarray
    boxes: np.ndarray
    entries: np.ndarray
    is_counted: bool


def text_table(
    table: EpochTable,
    img_count: np.ndarray,
    names: Sequence[str],
    groups: Mapping[str, np.ndarray],
    max_rows: int,
) -> str:
    """Head, middle and tail by epoch, then classes by phase.

    Args:
        table: what the epochs show.
        img_count: images of each class in the dataset, shape (C,).
        names: of the C classes.
        groups: name to the classes of a group, most frequent first.
        max_rows: most classes; of more, those at both ends are shown.
    """
    how = 'counted in one drawn epoch' if table.is_counted else 'expected'
    lines = [f'images an epoch, mean of the classes of a third ({how})']
    lines.append(
        f'{"epochs":>9} {"all":>9} '
        + ' '.join(f'{f"{name} ({len(part)})":>12}' for name, part in groups.items())
    )
    phases = phases_of(table)
    for first, last in phases:
        row = table.images[first]
        means = [row[part].mean() if len(part) else 0.0 for part in groups.values()]
        lines.append(
            f'{_span(table, first, last):>9} '
            f'{table.entries[first]:9.0f} ' + ' '.join(f'{m:12.1f}' for m in means)
        )
    shown = [c for part in groups.values() for c in part]
    left_out = len(shown) - max_rows
    if left_out > 0:
        # As many of the head as of the tail: these are what one looks for.
        half = max_rows // 2
        shown = [*shown[: max_rows - half], *shown[len(shown) - half :]]
    # The first and the last phase and, between, as many as fit a line.
    if len(phases) > MAX_PHASES:
        phases = [*phases[: MAX_PHASES - 1], phases[-1]]
    lines += ['', 'images / boxes an epoch, by class']
    lines.append(
        f'{"class":24} {"images":>8} '
        + ' '.join(f'{"ep. " + _span(table, a, b):>17}' for a, b in phases)
    )
    for c in shown:
        cells = ' '.join(
            f'{table.images[a, c]:8.1f} {table.boxes[a, c]:8.1f}' for a, _ in phases
        )
        lines.append(f'{names[c][:24]:24} {img_count[c]:8d} {cells}')
    if left_out > 0:
        lines.append(f'({left_out} classes between them left out)')
    unseen = int((np.asarray(img_count) == 0).sum())
    if unseen:
        lines.append(f'({unseen} classes without images)')
    return '\n'.join(lines)


def phases_of(table: EpochTable) -> list[tuple[int, int]]:
    """First and last row of each run of neighbouring epochs that show the same."""
    phases: list[tuple[int, int]] = []
    for row, epoch in enumerate(table.epochs):
        same = (
            phases
            and epoch == table.epochs[row - 1] + 1
            and (table.images[row] == table.images[phases[-1][0]]).all()
        )
        if same:
            phases[-1] = (phases[-1][0], row)
        else:
            phases.append((row, row))
    return phases


def _span(table: EpochTable, first: int, last: int) -> str:
    a, b = table.epochs[first], table.epochs[last]
    return str(a) if a == b else f'{a}-{b}'
