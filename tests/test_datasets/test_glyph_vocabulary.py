"""The tree, the Zipf law, and homoglyphs that the fonts themselves confirm."""

import numpy as np
import pytest
from PIL import ImageFont

from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.datasets.glyph_renderer import FONTS, font_folder, glyph_mask
from mmdet_imbalance.datasets.glyph_vocabulary import (
    CLASSES,
    HOMOGLYPHS,
    INNER_NODES,
    LEAVES,
    NUM_LEAVES,
    ancestor_matrix,
    class_palette,
    concurrent_leaves,
    hierarchy_tree,
    zipf_probs,
)

# Cyrillic letters of the serif faces are drawn by hinted instructions of their own.
SANS = [font for font, name in enumerate(FONTS) if 'Serif' not in name]


def test_names_are_distinct_and_many():
    assert len(set(CLASSES)) == len(CLASSES)
    assert NUM_LEAVES >= 60
    assert CLASSES[:NUM_LEAVES] == tuple(leaf.name for leaf in LEAVES)
    assert len({leaf.glyph for leaf in LEAVES}) == NUM_LEAVES


def test_ancestors_equal_a_walk_up_the_parents():
    parents = {leaf.name: leaf.parent for leaf in LEAVES} | INNER_NODES
    matrix = ancestor_matrix()
    for child, name in enumerate(CLASSES):
        found = {name}
        while parents[name]:
            name = parents[name]
            found.add(name)
        assert {CLASSES[a] for a in np.flatnonzero(matrix[child])} == found


def test_ancestors_are_closed_and_reflexive():
    matrix = ancestor_matrix().astype(int)
    assert (np.diag(matrix) == 1).all()
    assert np.array_equal(matrix @ matrix > 0, matrix > 0)
    assert ((matrix * matrix.T).sum(axis=1) == 1).all()


def test_exported_tree_gives_the_same_ancestors():
    hierarchy = ClassHierarchy.from_open_images_json(hierarchy_tree())
    assert np.array_equal(hierarchy.ancestor_matrix(CLASSES), ancestor_matrix())


def test_every_leaf_is_script_case_letter_deep_or_flat():
    depth = ancestor_matrix()[:NUM_LEAVES].sum(axis=1) - 1
    by_name = dict(zip(CLASSES, depth.tolist(), strict=False))
    assert by_name['greek-upper-Alpha'] == 3
    assert by_name['arrow-left'] == 2
    assert by_name['digit-2'] == 1


def trimmed(core):
    """Ink of a mask without the faint rim that a bearing of half a pixel leaves."""
    mask = np.array(core).reshape(core.size[::-1])
    mask = np.where(mask >= 16, mask, 0)
    mask = mask[mask.any(axis=1)]
    return mask[:, mask.any(axis=0)]


@pytest.mark.parametrize('font', SANS)
def test_homoglyphs_have_one_outline_in_the_fonts(font):
    path = font_folder() / FONTS[font]
    face = ImageFont.truetype(str(path), 48, layout_engine=ImageFont.Layout.BASIC)
    for group in HOMOGLYPHS:
        first, *others = (trimmed(face.getmask(char)) for char in group)
        assert all(np.array_equal(first, other) for other in others), group


@pytest.mark.parametrize('font', range(len(FONTS)))
def test_different_shapes_look_different(font):
    shapes = sorted({leaf.shape for leaf in LEAVES})
    canvas = np.zeros((len(shapes), 40, 40))
    for k, char in enumerate(shapes):
        mask = glyph_mask(char, font, 40, 0.0)
        height, width = mask.shape
        top, left = (40 - height) // 2, (40 - width) // 2
        canvas[k, top : top + height, left : left + width] = mask / 255
    flat = canvas.reshape(len(shapes), -1)
    distance = np.abs(flat[:, None] - flat[None]).mean(axis=2)
    np.fill_diagonal(distance, 1.0)
    pair = np.unravel_index(distance.argmin(), distance.shape)
    assert distance.min() > 0.02, [shapes[k] for k in pair]


def test_concurrency_is_an_equivalence():
    groups = concurrent_leaves()
    for leaf, group in enumerate(groups):
        assert leaf in group
        assert all(groups[other] == group for other in group)
    by_glyph = {leaf.glyph: label for label, leaf in enumerate(LEAVES)}
    assert set(groups[by_glyph['A']]) == {by_glyph[c] for c in 'AΑА'}
    assert groups[by_glyph['Ж']] == (by_glyph['Ж'],)


@pytest.mark.parametrize('imbalance_factor', [1.0, 2.0, 100.0, 1e4])
def test_frequencies_follow_zipf(imbalance_factor):
    probs = np.sort(zipf_probs(imbalance_factor, 3))[::-1]
    assert probs.sum() == pytest.approx(1.0)
    assert probs[0] / probs[-1] == pytest.approx(imbalance_factor)
    rank = np.arange(1, NUM_LEAVES + 1)
    slope = np.diff(np.log(probs)) / np.diff(np.log(rank))
    assert slope == pytest.approx(np.full(NUM_LEAVES - 1, slope[0]), abs=1e-9)


def test_frequency_seed_permutes_ranks_only():
    first, second = zipf_probs(50, 0), zipf_probs(50, 1)
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first), np.sort(second))
    assert np.array_equal(first, zipf_probs(50, 0))


@pytest.mark.parametrize('bad', [0.5, 0, -1, float('nan'), float('inf')])
def test_refuses_bad_imbalance(bad):
    with pytest.raises(ValueError, match='imbalance_factor'):
        zipf_probs(bad, 0)


def test_palette_has_a_colour_for_each_class():
    palette = class_palette()
    assert len(set(palette)) == len(CLASSES)
    assert all(0 <= v <= 255 for colour in palette for v in colour)
