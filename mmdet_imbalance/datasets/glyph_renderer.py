"""Renders glyphs on textured backgrounds, with exact boxes.

Everything about image `index` is a pure function of `(seed, index)` and the scene's
arguments; the boxes follow from the glyphs' masks alone, without painting.

A box is tight in the pixels: every pixel whose coverage is at least `MIN_COVERAGE`
differs from the background after painting, because the ink keeps a distance of
`MIN_CONTRAST` from every value that the background can take; coverage below is cut.

Shapes: H image height, W image width (equal here), images are BGR as in the host.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ImageFont

from mmdet_imbalance.datasets.glyph_vocabulary import LEAVES

#: Coverage, 0 to 255, below which a mask is cut to nothing.
MIN_COVERAGE = 16
#: The background leaves its base colour by at most this, in grey levels.
TEXTURE_AMPLITUDE = 35
#: Distance of the ink from everything that the background can be, in grey levels.
MIN_CONTRAST = 45
#: Pixels between the cells of two glyphs.
MARGIN = 2

FONTS = (
    *('DejaVuSans.ttf', 'DejaVuSans-Bold.ttf', 'DejaVuSans-Oblique.ttf'),
    *('DejaVuSansMono.ttf', 'DejaVuSansMono-Bold.ttf'),
    *('DejaVuSerif.ttf', 'DejaVuSerif-Bold.ttf'),
)


class Glyph(NamedTuple):
    """A glyph on an image.

    Attributes:
        label: leaf that was drawn.
        mask: coverage, shape (h, w), uint8; rows and columns at its rim are not empty.
        left: first column.
        top: first row.
        colour: ink, BGR.
    """

    label: int
    mask: np.ndarray
    left: int
    top: int
    colour: tuple[int, int, int]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 in pixels; x2 and y2 are one past the last pixel."""
        height, width = self.mask.shape
        return (self.left, self.top, self.left + width, self.top + height)


@dataclass(frozen=True)
class GlyphScene:
    """Arguments that fix an image beside `(seed, index)`.

    Attributes:
        image_size: side of the square image, pixels.
        glyph_size: smallest and largest longer side of a glyph, pixels.
        objects_per_image: smallest and largest number of glyphs drawn for; one that
            finds no free place is dropped, independently of its class.
        max_rotation: degrees to either side.
    """

    image_size: int = 192
    glyph_size: tuple[int, int] = (20, 52)
    objects_per_image: tuple[int, int] = (3, 7)
    max_rotation: float = 12.0

    def __post_init__(self) -> None:
        low, high = self.glyph_size
        if not 8 <= low <= high <= self.image_size - 2 * MARGIN:
            raise ValueError(
                f'`glyph_size` must be (low, high) with 8 <= low <= high <= '
                f'image_size - {2 * MARGIN}, got {tuple(self.glyph_size)} with '
                f'image_size={self.image_size}'
            )
        low, high = self.objects_per_image
        if not 0 <= low <= high:
            raise ValueError(
                f'`objects_per_image` must be (low, high) with 0 <= low <= high, '
                f'got {tuple(self.objects_per_image)}'
            )
        if not 0 <= self.max_rotation <= 45:
            raise ValueError(
                f'`max_rotation` must be between 0 and 45 degrees, '
                f'got {self.max_rotation}'
            )

    def glyphs(self, seed: int, index: int, leaf_probs: np.ndarray) -> list[Glyph]:
        """Glyphs of an image; no two of them share a pixel."""
        rng = stream(seed, index, 'layout')
        base = self._base_colour(seed, index)
        low, high = self.objects_per_image
        number = int(rng.integers(low, high + 1))
        labels = rng.choice(len(leaf_probs), size=number, p=leaf_probs)
        cells: list[tuple[int, int, int]] = []
        glyphs = []
        for label in labels:
            side = int(rng.integers(self.glyph_size[0], self.glyph_size[1] + 1))
            font = int(rng.integers(len(FONTS)))
            angle = float(rng.uniform(-self.max_rotation, self.max_rotation))
            colour = _ink(base, rng)
            cell = self._free_cell(side, cells, rng)
            if cell is None:
                continue
            cells.append((*cell, side))
            mask = glyph_mask(LEAVES[label].shape, font, side, angle)
            height, width = mask.shape
            left = cell[0] + (side - width) // 2
            top = cell[1] + (side - height) // 2
            glyphs.append(Glyph(int(label), mask, left, top, colour))
        return glyphs

    def _free_cell(self, side: int, cells: list, rng) -> tuple[int, int] | None:
        """Corner of a square that touches no other, or None after 40 trials."""
        corners = rng.integers(MARGIN, self.image_size - side - MARGIN + 1, (40, 2))
        for left, top in corners.tolist():
            if all(
                left >= x + s + MARGIN
                or x >= left + side + MARGIN
                or top >= y + s + MARGIN
                or y >= top + side + MARGIN
                for x, y, s in cells
            ):
                return left, top
        return None

    @staticmethod
    def _base_colour(seed: int, index: int) -> np.ndarray:
        """Mean background colour, shape (3,), far enough from 0 and 255 for texture."""
        low, high = TEXTURE_AMPLITUDE, 255 - TEXTURE_AMPLITUDE
        return stream(seed, index, 'base').integers(low, high + 1, 3)

    def background(self, seed: int, index: int) -> np.ndarray:
        """The image without its glyphs, shape (H, W, 3), uint8."""
        rng = stream(seed, index, 'texture')
        size = self.image_size
        field = np.zeros((size, size, 3), dtype=np.float32)
        # Three octaves of noise, one of them often nearly absent.
        for cells in (3, 12, 48):
            noise = rng.standard_normal((cells, cells, 3), dtype=np.float32)
            field += float(rng.uniform(0, 14)) * cv2.resize(
                noise, (size, size), interpolation=cv2.INTER_CUBIC
            )
        # Strokes, so that an edge alone is no glyph.
        for _ in range(int(rng.integers(0, 7))):
            ends = rng.integers(0, size, (2, 2)).tolist()
            value = rng.uniform(-TEXTURE_AMPLITUDE, TEXTURE_AMPLITUDE, 3).tolist()
            cv2.line(field, ends[0], ends[1], value, int(rng.integers(1, 4)))
        field += rng.standard_normal((size, size, 1), dtype=np.float32) * 3.0
        np.clip(field, -TEXTURE_AMPLITUDE, TEXTURE_AMPLITUDE, out=field)
        field += self._base_colour(seed, index).astype(np.float32)
        return np.rint(field).astype(np.uint8)

    def image(self, seed: int, index: int, glyphs: list[Glyph]) -> np.ndarray:
        """The image, shape (H, W, 3), uint8, BGR."""
        image = self.background(seed, index)
        for glyph in glyphs:
            x1, y1, x2, y2 = glyph.box
            patch = image[y1:y2, x1:x2].astype(np.float32)
            coverage = glyph.mask[..., None].astype(np.float32) / 255.0
            patch += coverage * (np.array(glyph.colour, dtype=np.float32) - patch)
            image[y1:y2, x1:x2] = np.rint(patch).astype(np.uint8)
        return image


STREAMS = ('layout', 'base', 'texture', 'annotation', 'noise')


def stream(seed: int, index: int, name: str) -> np.random.Generator:
    """Random stream of one image; a stream each, so options do not disturb others."""
    return np.random.default_rng([seed, index, STREAMS.index(name)])


def glyph_mask(char: str, font: int, side: int, angle: float) -> np.ndarray:
    """Coverage of a glyph, cropped tight, shape (h, w), uint8.

    Args:
        char: the character.
        font: index into `FONTS`.
        side: longer side of the crop, pixels; the result is never larger and at most
            a few pixels smaller.
        angle: degrees, counter-clockwise.
    """
    pixels = side * _em_per_side(char, font)
    # Hinting and rotation make a glyph a little larger than its outline says.
    while True:
        mask = _rotated(_upright(char, font, max(int(pixels), 4)), angle)
        excess = max(mask.shape) - side
        if excess <= 0:
            return mask
        pixels -= max(1.0, pixels * excess / side)


@lru_cache(maxsize=1024)
def _em_per_side(char: str, font: int) -> float:
    """Font size over longer side of the glyph, measured at 128 pixels."""
    return 128.0 / max(_crop(_upright(char, font, 128)).shape)


@lru_cache(maxsize=512)
def _font(font: int, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(
        str(font_folder() / FONTS[font]), pixels, layout_engine=ImageFont.Layout.BASIC
    )


@lru_cache(maxsize=1)
def font_folder() -> Path:
    """Folder of the fonts inside matplotlib's wheel."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'


def _upright(char: str, font: int, pixels: int) -> np.ndarray:
    core = _font(font, pixels).getmask(char, mode='L')
    return np.asarray(core, dtype=np.uint8).reshape(core.size[1], core.size[0])


def _rotated(mask: np.ndarray, angle: float) -> np.ndarray:
    height, width = mask.shape
    side = int(np.ceil(np.hypot(height, width))) + 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    matrix[:, 2] += [(side - width) / 2, (side - height) / 2]
    return _crop(cv2.warpAffine(mask, matrix, (side, side), flags=cv2.INTER_LINEAR))


def _crop(mask: np.ndarray) -> np.ndarray:
    """Cut faint coverage away, then crop to what is left."""
    mask = np.where(mask >= MIN_COVERAGE, mask, 0).astype(np.uint8)
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        raise RuntimeError(
            'a glyph rendered to nothing: the fonts of the installed matplotlib lack it'
        )
    return mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _ink(base: np.ndarray, rng) -> tuple[int, int, int]:
    """Colour that keeps `MIN_CONTRAST` from the background in one channel at least.

    The ink goes to the side of the base where there is more room: a channel at or
    below (above) the base's mean has room for the whole step.
    """
    direction = 1 if base.mean() < 127.5 else -1
    step = TEXTURE_AMPLITUDE + rng.uniform(MIN_CONTRAST, 130, 3)
    return tuple(int(v) for v in np.clip(np.rint(base + direction * step), 0, 255))
