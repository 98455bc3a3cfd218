"""Plain tables: aligned text for logs, Markdown and CSV for reports."""

import csv
import io
import math
from collections.abc import Sequence

import numpy as np


def format_number(value: object, digits: int = 3) -> str:
    """Text of a cell; a value that is not defined (nan, None) is a dash."""
    if value is None:
        return '-'
    if isinstance(value, (float, np.floating)):
        return '-' if math.isnan(value) else f'{value:.{digits}f}'
    return str(value)


def text_table(header: Sequence[str], rows: Sequence[Sequence], digits: int = 3) -> str:
    """Aligned columns; the first one is left-aligned, the others right-aligned."""
    cells = [list(header), *([format_number(v, digits) for v in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        '  '.join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, '  '.join('-' * width for width in widths))
    return '\n'.join(lines)


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence], digits: int = 3
) -> str:
    """GitHub Markdown; a bar inside a cell is escaped."""
    lines = [list(header), ['---'] + ['---:'] * (len(header) - 1)]
    lines += [[format_number(v, digits) for v in row] for row in rows]
    return '\n'.join(
        '| ' + ' | '.join(cell.replace('|', '\\|') for cell in line) + ' |'
        for line in lines
    )


def csv_table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """CSV with full precision; a value that is not defined is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator='\n')
    writer.writerow(header)
    for row in rows:
        writer.writerow(
            [
                '' if v is None or (isinstance(v, float) and math.isnan(v)) else v
                for v in row
            ]
        )
    return out.getvalue()
