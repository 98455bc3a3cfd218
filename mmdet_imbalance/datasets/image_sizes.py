"""Sizes of images from their headers, without decoding a pixel.

The index is a CSV file `ImageID,Width,Height` in pixels, as the image is decoded:
turned by its EXIF orientation.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mmdet_imbalance.core.atomic_write import atomic_path

HEADER = ('ImageID', 'Width', 'Height')
ORIENTATION = 0x0112
#: EXIF orientations that are turned by a quarter.
QUARTER_TURNS = (5, 6, 7, 8)
PATHS_AT_ONCE = 64


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the decoded image, pixels.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(ORIENTATION)
    except FileNotFoundError:
        raise FileNotFoundError(f'image {str(path)!r} does not exist') from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f'{path} is no image that can be read: {error}') from error
    return (height, width) if orientation in QUARTER_TURNS else (width, height)


def measure_images(
    paths: Sequence[str | Path], num_workers: int = 4
) -> Iterator[tuple[str, tuple[int, int] | str]]:
    """Sizes of many images, in several processes.

    Yields:
        Path, and its size or what is wrong with it, in the order of `paths`.
    """
    if num_workers <= 1 or len(paths) < 2 * PATHS_AT_ONCE:
        yield from map(_measure, paths)
        return
    with get_context('spawn').Pool(num_workers) as pool:
        yield from pool.imap(_measure, map(str, paths), chunksize=PATHS_AT_ONCE)


def write_sizes(path: str | Path, rows: Iterable[tuple[str, int, int]]) -> None:
    """Write an index, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(HEADER)
    writer.writerows(rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding='utf-8')


def _measure(path: str | Path) -> tuple[str, tuple[int, int] | str]:
    try:
        return str(path), image_size(path)
    except (OSError, ValueError) as error:
        return str(path), str(error)
