"""Reads the CSV files of Open Images, V4 to V7 and the Challenges, as downloaded.

Columns are found by their names in the header, so that further columns (V6 clicks) and
missing flags (Challenge validation) do no harm. Byte order marks, CRLF and quotes are
read. What cannot be a value is an error with file, line and value, or is skipped and
counted.

Shapes: M rows of a file.
"""

import csv
import math
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

SIDES = ('XMin', 'YMin', 'XMax', 'YMax')
FLAGS = ('IsOccluded', 'IsTruncated', 'IsGroupOf', 'IsDepiction', 'IsInside')
CODES = pa.dictionary(pa.int32(), pa.string())
BLOCK_BYTES = 8 << 20


def read_columns(
    path: str | Path,
    types: dict[str, pa.DataType],
    optional: Sequence[str] = (),
    skip_bad: bool = False,
) -> tuple[dict[str, pa.ChunkedArray], int]:
    """Read columns by name with several threads.

    Args:
        path: CSV file with a header.
        types: wanted columns.
        optional: those that the file may lack.
        skip_bad: leave out lines that cannot be read, instead of an error.

    Returns:
        The columns that are there, and the number of lines left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, or a line that cannot be read.
    """
    path = Path(path)
    header = read_header(path)
    missing = [name for name in types if name not in header and name not in optional]
    if missing:
        raise ValueError(
            f'{path}, line 1: column(s) {missing} are missing; the header has {header}'
        )
    wanted = {name: kind for name, kind in types.items() if name in header}
    skipped = []

    def note(row) -> str:
        skipped.append(row.text)
        return 'skip' if skip_bad else 'error'

    def read(kinds: dict[str, pa.DataType]) -> pa.Table:
        skipped.clear()
        return arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=arrow_csv.ParseOptions(invalid_row_handler=note),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(kinds), column_types=kinds, null_values=['']
            ),
        )

    try:
        table = read(wanted)
    except pa.ArrowInvalid as error:
        if not skip_bad:
            _raise_at_bad_line(path, header, wanted, error)
        numbers = [n for n, kind in wanted.items() if not pa.types.is_dictionary(kind)]
        table = read({n: pa.string() if n in numbers else k for n, k in wanted.items()})
        columns = {name: table[name] for name in wanted}
        for name in numbers:
            columns[name] = _lenient(table[name], wanted[name])
        return columns, len(skipped)
    return {name: table[name] for name in wanted}, len(skipped)


def read_header(path: Path) -> list[str]:
    """Names in the first line."""
    if not path.is_file():
        raise FileNotFoundError(f'annotation file {str(path)!r} does not exist')
    with open(path, newline='', encoding='utf-8-sig', errors='replace') as file:
        header = next(csv.reader(file), [])
    if not header:
        raise ValueError(f'{path} is empty')
    return header


def codes_of(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Number of each row's text, int32 (M,), and the texts, as they first appear."""
    column = column.unify_dictionaries()
    if column.num_chunks == 0:
        return np.zeros(0, dtype=np.int32), pa.array([], pa.string())
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])
    return codes, column.chunk(0).dictionary


def line_of_row(path: str | Path, row: int) -> tuple[int, str]:
    """Line number, from 1, and text of a data row; empty lines hold no row."""
    found = -1
    with open(path, newline='', encoding='utf-8-sig', errors='replace') as file:
        for number, line in enumerate(file, 1):
            found += bool(line.strip())
            if found == row + 1:
                return number, line.rstrip('\r\n')
    return -1, ''


def row_error(
    path: str | Path, row: int, what: str, can_skip: bool = True
) -> ValueError:
    """An error that names file, line and text of a data row, and the way round it."""
    number, text = line_of_row(path, row)
    hint = " (bad_rows='skip' leaves such rows out and counts them)" if can_skip else ''
    return ValueError(f'{path}, line {number}: {what} in {text!r}{hint}')


def read_class_list(path: str | Path) -> dict[str, str]:
    """Machine id -> name, in the order of the file.

    Two ids of the Challenge's 500 classes are called `Bench` and two `Mouse`: such
    names get their id, so that each class has a name of its own.  A third column that
    numbers the classes from 1, as in the host's `cls-label-description.csv`, is read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is not `id,name`, or an id that comes twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'`label_file` {str(path)!r} does not exist')
    names: dict[str, str] = {}
    with open(path, newline='', encoding='utf-8-sig') as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row or (number == 1 and row[0] == 'LabelName'):
                continue
            where = f'{path}, line {number}'
            if len(row) not in (2, 3) or not all(row):
                raise ValueError(f'{where}: expected `id,name`, got {row}')
            mid, name = row[:2]
            if mid in names:
                raise ValueError(f'{where}: {mid!r} comes twice')
            names[mid] = name
            if len(row) == 3 and row[2] != str(len(names)):
                raise ValueError(
                    f'{where}: expected `id,name`, or `id,name,{len(names)}` (the '
                    f'number of the class, counted from 1), got {row}'
                )
    if not names:
        raise ValueError(f'{path} names no classes')
    times = Counter(names.values())
    return {
        mid: name if times[name] == 1 else f'{name} ({mid})'
        for mid, name in names.items()
    }


def choose_classes(
    names: dict[str, str], chosen: str | Sequence[str] | None, path: str | Path
) -> dict[str, str]:
    """Id to name of some classes, in their order.

    Args:
        names: id to name of all classes (`read_class_list`).
        chosen: names; None takes all.
        path: of the class list, for the error.

    Raises:
        ValueError: none, a name that is not in the list, or one twice.
    """
    if chosen is None:
        chosen = tuple(names.values())
    chosen = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    mid_of = {name: mid for mid, name in names.items()}
    unknown = [name for name in chosen if name not in mid_of]
    if unknown or len(set(chosen)) < len(chosen) or not chosen:
        near = get_close_matches(str(unknown[0]), mid_of, 1, 0.5) if unknown else []
        hint = f'; the nearest to {unknown[0]!r} is {near[0]!r}' if near else ''
        raise ValueError(
            f"`metainfo['classes']` must be distinct names of {path}, "
            f'got {unknown or chosen}{hint}'
        )
    return {mid_of[name]: name for name in chosen}


def _lenient(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Numbers of texts; what is none becomes null."""
    number: Callable = float if pa.types.is_floating(kind) else int

    def parse(text: str | None):
        try:
            return number(text)
        except (TypeError, ValueError):
            return None

    return pa.chunked_array([pa.array(map(parse, column.to_pylist()), kind)])


def _raise_at_bad_line(path, header, wanted, error) -> None:
    """Find what pyarrow could not read, and say where it stands."""
    numbers = {
        header.index(name): pa.types.is_floating(kind)
        for name, kind in wanted.items()
        if not pa.types.is_dictionary(kind)
    }
    with open(path, newline='', encoding='utf-8-sig', errors='replace') as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            if not row:
                continue
            where = f'{path}, line {reader.line_num}'
            if len(row) != len(header):
                raise ValueError(
                    f'{where}: {len(row)} fields, the header has {len(header)}: '
                    f'{",".join(row)!r} (a truncated file?)'
                ) from error
            for at, is_float in numbers.items():
                if row[at] and not _is_number(row[at], is_float):
                    raise ValueError(
                        f'{where}: {header[at]} must be a number, got {row[at]!r}'
                    ) from error
    raise ValueError(f'{path}: {error}') from error


def _is_number(text: str, is_float: bool) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return is_float or (math.isfinite(value) and value == int(value))
