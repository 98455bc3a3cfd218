"""Classes of the embedded demo data: a tree of glyphs, some of which look the same.

The tree is kind > script > case > letter: `letter > greek > greek-upper > Α`. Latin A,
Greek Alpha and Cyrillic A are three leaves with one and the same outline in the
fonts: concurrent classes that no picture can tell apart.

Left out on purpose are glyphs that differ in nothing but their size (c and C), because
the demo draws every glyph at any size: they would be errors of annotation rather than
concurrent classes.

Shapes: C classes, leaves and inner nodes together.
"""

from typing import NamedTuple

import numpy as np


class Leaf(NamedTuple):
    """A class that is drawn.

    Attributes:
        name: class name, ASCII, unique.
        glyph: the character.
        parent: name of the inner node above it.
        shape: the character whose outline is drawn; equal for homoglyphs.
    """

    name: str
    glyph: str
    parent: str
    shape: str


#: Inner nodes and their parent ('' at the top), parents before children.
INNER_NODES = {
    'letter': '',
    'latin': 'letter',
    'latin-upper': 'latin',
    'latin-lower': 'latin',
    'greek': 'letter',
    'greek-upper': 'greek',
    'greek-lower': 'greek',
    'cyrillic': 'letter',
    'cyrillic-upper': 'cyrillic',
    'cyrillic-lower': 'cyrillic',
    'digit': '',
    'symbol': '',
    'arrow': 'symbol',
    'suit': 'symbol',
}

# Characters and their romanised names, in the same order.
_LEAVES = {
    'latin-upper': ('ABEHKMPTDFGRS', 'A B E H K M P T D F G R S'),
    'latin-lower': ('aebgn', 'a e b g n'),
    'greek-upper': (
        'ΑΒΕΗΚΜΡΤΓΠΔΛΞΨΩ',
        'Alpha Beta Epsilon Eta Kappa Mu Rho Tau Gamma Pi Delta Lambda Xi Psi Omega',
    ),
    'greek-lower': ('αβλμ', 'alpha beta lambda mu'),
    'cyrillic-upper': (
        'АВЕНМРТГПБЖШЮЯ',
        'A Ve Ie En Em Er Te Ghe Pe Be Zhe Sha Yu Ya',
    ),
    'cyrillic-lower': ('аеб', 'a ie be'),
    'digit': ('234578', '2 3 4 5 7 8'),
    'arrow': ('←↑→↓', 'left up right down'),
    'suit': ('♠♣♥♦', 'spade club heart diamond'),
}

#: Characters with one outline; the first is the one that is drawn for all.
HOMOGLYPHS = (
    *('AΑА', 'BΒВ', 'EΕЕ', 'HΗН', 'KΚ', 'MΜМ', 'PΡР', 'TΤТ'),
    *('ΓГ', 'ΠП', 'aа', 'eе'),
)


def _leaves() -> tuple[Leaf, ...]:
    shape_of = {glyph: group[0] for group in HOMOGLYPHS for glyph in group}
    return tuple(
        Leaf(f'{parent}-{name}', glyph, parent, shape_of.get(glyph, glyph))
        for parent, (glyphs, names) in _LEAVES.items()
        for glyph, name in zip(glyphs, names.split(), strict=True)
    )


LEAVES = _leaves()
NUM_LEAVES = len(LEAVES)
#: Class names; the leaves come first, so a leaf's position is its label.
CLASSES = (*(leaf.name for leaf in LEAVES), *INNER_NODES)


def concurrent_leaves() -> tuple[tuple[int, ...], ...]:
    """Labels of all leaves that look like a leaf, itself included, for each leaf."""
    by_shape: dict[str, list[int]] = {}
    for label, leaf in enumerate(LEAVES):
        by_shape.setdefault(leaf.shape, []).append(label)
    return tuple(tuple(by_shape[leaf.shape]) for leaf in LEAVES)


def ancestor_matrix() -> np.ndarray:
    """Ancestors of every class, shape (C, C), bool, `[child, ancestor]`, reflexive."""
    parents = {leaf.name: leaf.parent for leaf in LEAVES} | INNER_NODES
    index = {name: label for label, name in enumerate(CLASSES)}
    matrix = np.eye(len(CLASSES), dtype=bool)
    for name in CLASSES:
        above = parents[name]
        while above:
            matrix[index[name], index[above]] = True
            above = parents[above]
    return matrix


def hierarchy_tree() -> dict:
    """The tree in the form of the Open Images hierarchy file."""
    nodes = {name: {'LabelName': name} for name in ('Entity', *CLASSES)}
    parents = {leaf.name: leaf.parent for leaf in LEAVES} | INNER_NODES
    for name in CLASSES:
        above = nodes[parents[name] or 'Entity']
        above.setdefault('Subcategory', []).append(nodes[name])
    return nodes['Entity']


def zipf_probs(imbalance_factor: float, frequency_seed: int) -> np.ndarray:
    """Probability of each leaf, `p(rank) ~ rank ** -s`, shape (number of leaves,).

    The exponent is `s = log(imbalance_factor) / log(number of leaves)`, so the
    likeliest leaf is `imbalance_factor` times as likely as the least likely one; 1
    makes all equal.

    Args:
        imbalance_factor: largest over smallest probability, at least 1.
        frequency_seed: which leaf has which rank.
    """
    if not imbalance_factor >= 1 or not np.isfinite(imbalance_factor):
        raise ValueError(
            f'`imbalance_factor` must be finite and at least 1 (balanced), '
            f'got {imbalance_factor}'
        )
    exponent = np.log(imbalance_factor) / np.log(NUM_LEAVES)
    by_rank = np.arange(1, NUM_LEAVES + 1, dtype=np.float64) ** -exponent
    ranks = np.random.default_rng(frequency_seed).permutation(NUM_LEAVES)
    return by_rank[ranks] / by_rank.sum()


def class_palette() -> list[tuple[int, int, int]]:
    """One RGB colour per class, hues by the golden angle so neighbours differ."""
    hue = np.arange(len(CLASSES)) * 0.618033988749895 % 1.0
    # HSV to RGB at saturation .75 and value .95.
    offsets = np.array([0.0, 2 / 3, 1 / 3])
    triangle = np.clip(
        np.abs((hue[:, None] + offsets) % 1.0 * 6.0 - 3.0) - 1.0, 0.0, 1.0
    )
    rgb = 0.95 * (0.25 + 0.75 * triangle)
    return [tuple(int(v) for v in row) for row in np.rint(255 * rgb)]
