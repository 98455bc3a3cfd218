"""Hypernyms of WordNet synsets, read from the database files of WordNet 3.0.

The format is that of wndb(5WN): `index.noun` lists, for a lemma, the offsets of its
synsets by rank; `data.noun` holds the synsets with their pointers, of which `@` and
`@i` lead to hypernyms.

Shapes: none.  Deviations: only nouns, which is all that detection classes are.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

HYPERNYM_POINTERS = ('@', '@i')


class WordNet:
    """Noun synsets and their hypernyms.

    Args:
        folder: the database files (Debian's `wordnet-base`: /usr/share/wordnet).

    Raises:
        FileNotFoundError: the files are not there.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        for name in ('index.noun', 'data.noun'):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f'{folder / name} not found; install the database files of WordNet '
                    '3.0 (Debian: apt-get install wordnet-base)'
                )
        self._offsets = dict(_read_index(folder / 'index.noun'))
        self._parents = dict(_read_data(folder / 'data.noun'))

    def offset(self, synset: str) -> str | None:
        """Offset of a synset named like 'dog.n.01'; None where WordNet lacks it."""
        try:
            lemma, part_of_speech, rank = synset.rsplit('.', 2)
            rank = int(rank)
        except ValueError:
            raise ValueError(
                f"a synset must be named like 'dog.n.01', got {synset!r}"
            ) from None
        offsets = self._offsets.get(lemma.lower(), ())
        if part_of_speech != 'n' or not 1 <= rank <= len(offsets):
            return None
        return offsets[rank - 1]

    def hypernyms(self, offset: str) -> set[str]:
        """Offsets of all synsets above one, not itself."""
        above, waiting = set(), [offset]
        while waiting:
            for parent in self._parents.get(waiting.pop(), ()):
                if parent not in above:
                    above.add(parent)
                    waiting.append(parent)
        return above


def synset_tree(wordnet: WordNet, synsets: Iterable[str]) -> list[dict]:
    """Is-a relations among some synsets, as a tree in the Open Images form.

    A synset stands below each of its nearest hypernyms in the collection, so it may
    stand in several places.  One that WordNet lacks has no relatives.

    Args:
        wordnet: the database.
        synsets: names like 'dog.n.01'.

    Returns:
        Top nodes, `{'LabelName': synset, 'Subcategory': [...]}`, sorted by name.
    """
    offsets = {name: wordnet.offset(name) for name in sorted(set(synsets))}
    known = {offset: name for name, offset in offsets.items() if offset is not None}
    above = {
        name: {known[o] for o in wordnet.hypernyms(offset) if o in known}
        for name, offset in offsets.items()
        if offset is not None
    }
    children: dict[str, list[str]] = {name: [] for name in offsets}
    tops = [name for name in offsets if not above.get(name)]
    for name, ancestors in above.items():
        # Nearest: not above another of the ancestors.
        farther = set().union(*(above[a] for a in ancestors)) if ancestors else set()
        for parent in sorted(ancestors - farther):
            children[parent].append(name)
    return [_node(name, children) for name in tops]


def _node(name: str, children: dict[str, list[str]]) -> dict:
    node: dict = {'LabelName': name}
    if children[name]:
        node['Subcategory'] = [_node(child, children) for child in children[name]]
    return node


def _read_index(path: Path) -> Iterable[tuple[str, Sequence[str]]]:
    for fields in _records(path):
        yield fields[0], fields[-int(fields[2]) :]


def _read_data(path: Path) -> Iterable[tuple[str, Sequence[str]]]:
    for fields in _records(path):
        # Offset, file, type, number of words (hexadecimal), words with an id each,
        # number of pointers, and four fields a pointer: symbol, offset, ...
        start = 4 + 2 * int(fields[3], 16)
        pointers = fields[start + 1 : start + 1 + 4 * int(fields[start])]
        yield (
            fields[0],
            [
                offset
                for symbol, offset in zip(pointers[::4], pointers[1::4], strict=True)
                if symbol in HYPERNYM_POINTERS
            ],
        )


def _records(path: Path) -> Iterable[list[str]]:
    with path.open(encoding='utf-8') as lines:
        for line in lines:
            if not line.startswith(' '):  # The licence stands in indented lines.
                yield line.split(' | ')[0].split()
