"""Boxes against pixels, and what an image is a function of."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from mmdet_imbalance.datasets.glyph_renderer import (
    FONTS,
    GlyphScene,
    font_folder,
    glyph_mask,
)
from mmdet_imbalance.datasets.glyph_vocabulary import LEAVES, NUM_LEAVES, zipf_probs

PROBS = zipf_probs(1.0, 0)


def tight_box(changed):
    rows = np.flatnonzero(changed.any(axis=1))
    cols = np.flatnonzero(changed.any(axis=0))
    return (int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1)


@pytest.mark.parametrize(
    'scene',
    [
        GlyphScene(),
        GlyphScene(image_size=96, glyph_size=(8, 30), max_rotation=45.0),
        GlyphScene(image_size=128, glyph_size=(60, 60), max_rotation=0.0),
    ],
)
def test_boxes_are_tight_in_the_pixels(scene):
    for index in range(25):
        glyphs = scene.glyphs(7, index, PROBS)
        changed = scene.image(7, index, glyphs) != scene.background(7, index)
        changed = changed.any(axis=2)
        for glyph in glyphs:
            x1, y1, x2, y2 = glyph.box
            assert 0 <= x1 < x2 <= scene.image_size
            assert 0 <= y1 < y2 <= scene.image_size
            # One pixel of slack around the box: ink outside would widen the answer.
            left, top = max(x1 - 1, 0), max(y1 - 1, 0)
            found = tight_box(changed[top : y2 + 1, left : x2 + 1])
            assert found == (x1 - left, y1 - top, x2 - left, y2 - top)
            changed[y1:y2, x1:x2] = False
        assert not changed.any()


def test_sizes_are_as_asked_for_every_leaf_and_font():
    for leaf in LEAVES:
        for font in range(len(FONTS)):
            for side, angle in ((20, 0.0), (33, 12.0), (52, -12.0)):
                longest = max(glyph_mask(leaf.shape, font, side, angle).shape)
                assert 0.8 * side <= longest <= side, (leaf.name, FONTS[font])


def test_image_is_a_function_of_seed_and_index():
    scene = GlyphScene(image_size=64, glyph_size=(12, 24))

    def image(seed, index):
        return scene.image(seed, index, scene.glyphs(seed, index, PROBS))

    assert np.array_equal(image(1, 5), image(1, 5))
    assert not np.array_equal(image(1, 5), image(1, 6))
    assert not np.array_equal(image(1, 5), image(2, 5))
    assert not np.array_equal(image(5, 1), image(1, 5))


def test_same_image_in_another_process():
    code = (
        'import zlib, numpy as np\n'
        'from mmdet_imbalance.datasets.glyph_renderer import GlyphScene\n'
        'from mmdet_imbalance.datasets.glyph_vocabulary import zipf_probs\n'
        'scene = GlyphScene(); glyphs = scene.glyphs(3, 4, zipf_probs(1.0, 0))\n'
        'print(zlib.crc32(scene.image(3, 4, glyphs).tobytes()))'
    )
    runs = {
        subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        for _ in range(2)
    }
    scene = GlyphScene()
    glyphs = scene.glyphs(3, 4, PROBS)
    assert runs == {str(zlib.crc32(scene.image(3, 4, glyphs).tobytes()))}


def test_labels_follow_the_probabilities():
    # A chi-square of 68 degrees of freedom exceeds 125 once in 30,000 seeds.
    scene = GlyphScene(image_size=160, glyph_size=(8, 8), objects_per_image=(10, 10))
    probs = zipf_probs(30.0, 0)
    labels = [g.label for i in range(400) for g in scene.glyphs(0, i, probs)]
    expected = probs * len(labels)
    count = np.bincount(labels, minlength=NUM_LEAVES)
    assert len(labels) == 4000
    assert ((count - expected) ** 2 / expected).sum() < 125


def test_number_of_objects_covers_its_range():
    scene = GlyphScene(image_size=128, glyph_size=(8, 10), objects_per_image=(0, 3))
    numbers = {len(scene.glyphs(0, i, PROBS)) for i in range(60)}
    assert numbers == {0, 1, 2, 3}


def test_crowded_scene_drops_objects_instead_of_overlapping():
    scene = GlyphScene(image_size=64, glyph_size=(30, 40), objects_per_image=(9, 9))
    for index in range(20):
        glyphs = scene.glyphs(0, index, PROBS)
        assert 1 <= len(glyphs) < 9
        boxes = [glyph.box for glyph in glyphs]
        for k, (x1, y1, x2, y2) in enumerate(boxes):
            for u1, v1, u2, v2 in boxes[:k]:
                assert u1 >= x2 or u2 <= x1 or v1 >= y2 or v2 <= y1


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('glyph_size', (4, 20)),
        ('glyph_size', (30, 20)),
        ('glyph_size', (20, 400)),
        ('objects_per_image', (3, 2)),
        ('objects_per_image', (-1, 2)),
        ('max_rotation', 60.0),
        ('max_rotation', float('nan')),
    ],
)
def test_refuses_bad_scene(name, value):
    with pytest.raises(ValueError, match=name):
        GlyphScene(**{name: value})


def test_fonts_are_in_the_wheel():
    assert all((font_folder() / name).is_file() for name in FONTS)
