"""Class hierarchy: a directed acyclic graph of is-a relations between class names.

The file format is that of Open Images (`bbox_labels_600_hierarchy.json`): nested
nodes with `LabelName` and `Subcategory`; a name may stand in several places, so a
class may have several parents. `Part` lists (a wheel is part of a car) are no is-a
relation: their nodes are known, but get no ancestor through them.

Shapes: C classes of a vocabulary, n nodes of the hierarchy.
Orientation everywhere: matrix[child, ancestor], reflexive (the host's
`RELATION_MATRIX`). Deviations from the host: several parents, cycles and unknown
names are handled instead of overflowing the stack or raising a KeyError.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np


class ClassHierarchy:
    """Is-a relations between named classes.

    Args:
        edges: pairs (child, parent); repeated pairs count once.
        nodes: names that may stand in no edge; the order of first mention in `nodes`
            and then in `edges` is the order of `self.nodes`.
        source: where the relations come from, for messages.

    Raises:
        ValueError: an edge closes a cycle; the message names the cycle.
    """

    def __init__(
        self,
        edges: Iterable[tuple[str, str]],
        nodes: Iterable[str] = (),
        source: str = 'the hierarchy',
    ) -> None:
        edges = list(dict.fromkeys(edges))
        names = dict.fromkeys(nodes)
        for child, parent in edges:
            names.setdefault(child)
            names.setdefault(parent)
        self.source = source
        self.nodes: tuple[str, ...] = tuple(names)
        self._index = {name: i for i, name in enumerate(self.nodes)}
        self._parents: list[list[int]] = [[] for _ in self.nodes]
        self._children: list[list[int]] = [[] for _ in self.nodes]
        for child, parent in edges:
            self._parents[self._index[child]].append(self._index[parent])
            self._children[self._index[parent]].append(self._index[child])
        self._closure = self._close()

    @classmethod
    def from_open_images_json(
        cls, hierarchy: str | Path | Mapping | Sequence
    ) -> 'ClassHierarchy':
        """Read a tree in the Open Images form.

        Args:
            hierarchy: path of a JSON file, or its content: a node or a list of nodes.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: broken JSON (with file and line), a node without a name, or a
                cycle.
        """
        source = 'the hierarchy'
        if isinstance(hierarchy, (str, Path)):
            source = str(hierarchy)
            hierarchy = _load_json(Path(hierarchy))
        nodes, edges = _walk_open_images(hierarchy, source)
        return cls(edges, nodes, source)

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __repr__(self) -> str:
        return f'ClassHierarchy({len(self)} nodes from {self.source})'

    @property
    def roots(self) -> tuple[str, ...]:
        """Names without a parent, in node order."""
        return tuple(
            name for name, up in zip(self.nodes, self._parents, strict=True) if not up
        )

    def parents(self, name: str) -> tuple[str, ...]:
        """Direct parents of a class."""
        return tuple(self.nodes[i] for i in self._parents[self._find(name)])

    def children(self, name: str) -> tuple[str, ...]:
        """Direct children of a class."""
        return tuple(self.nodes[i] for i in self._children[self._find(name)])

    def ancestors(self, name: str) -> tuple[str, ...]:
        """All proper ancestors of a class, in node order."""
        return self._names(self._closure[self._find(name)], name)

    def descendants(self, name: str) -> tuple[str, ...]:
        """All proper descendants of a class, in node order."""
        return self._names(self._closure[:, self._find(name)], name)

    def ancestor_matrix(
        self, class_ids: Sequence[str], allow_unknown: bool = False
    ) -> np.ndarray:
        """Ancestors among the classes of a vocabulary.

        Nodes that the vocabulary lacks are bridged: a grandparent stays an ancestor
        when the parent between is no class.

        Args:
            class_ids: names of the C classes as they stand in the hierarchy.
            allow_unknown: a class that the hierarchy lacks gets no relative but
                itself, instead of an error.

        Returns:
            bool (C, C), [child, ancestor], True on the diagonal.

        Raises:
            ValueError: a repeated class, or classes that the hierarchy lacks.
        """
        class_ids = list(class_ids)
        if len(set(class_ids)) != len(class_ids):
            twice = sorted({c for c in class_ids if class_ids.count(c) > 1})
            raise ValueError(f'`class_ids` must not repeat a class, got {twice} twice')
        if not allow_unknown:
            self.check_names(class_ids)
        known = [k for k, name in enumerate(class_ids) if name in self._index]
        inds = np.array([self._index[class_ids[k]] for k in known], dtype=np.intp)
        matrix = np.eye(len(class_ids), dtype=bool)
        matrix[np.ix_(known, known)] = self._closure[np.ix_(inds, inds)]
        return matrix

    def descendant_matrix(
        self, class_ids: Sequence[str], allow_unknown: bool = False
    ) -> np.ndarray:
        """Transpose of `ancestor_matrix`: bool (C, C), [ancestor, child]."""
        return self.ancestor_matrix(class_ids, allow_unknown).T.copy()

    def inner_nodes_above(self, class_ids: Sequence[str]) -> tuple[str, ...]:
        """Ancestors of a vocabulary that are not in it, the roots left out.

        A root stands above everything and says nothing about an object.

        Args:
            class_ids: names of classes; those the hierarchy lacks are passed over.

        Returns:
            Names in node order (in a file: parents before children).
        """
        inds = [self._index[name] for name in class_ids if name in self._index]
        above = self._closure[inds].any(axis=0)
        above[inds] = False
        left_out = set(self.roots)
        return tuple(
            self.nodes[i]
            for i in np.flatnonzero(above)
            if self.nodes[i] not in left_out
        )

    def check_names(self, names: Iterable[str]) -> None:
        """Raise ValueError naming those that the hierarchy lacks, and what is near."""
        unknown = [name for name in names if name not in self._index]
        if not unknown:
            return
        shown = []
        for name in unknown[:10]:
            near = difflib.get_close_matches(str(name), self.nodes, n=1)
            shown.append(f'{name!r}' + (f' (nearest: {near[0]!r})' if near else ''))
        more = f' and {len(unknown) - 10} more' if len(unknown) > 10 else ''
        raise ValueError(
            f'{len(unknown)} class name(s) are not in {self.source}: '
            f'{", ".join(shown)}{more}. Map class names to node names, or use the '
            'hierarchy file that belongs to these classes.'
        )

    def _find(self, name: str) -> int:
        if name not in self._index:
            self.check_names([name])
        return self._index[name]

    def _names(self, mask: np.ndarray, without: str) -> tuple[str, ...]:
        return tuple(
            self.nodes[i] for i in np.flatnonzero(mask) if self.nodes[i] != without
        )

    def _close(self) -> np.ndarray:
        """Reflexive transitive closure (n, n): rows joined from the roots downwards."""
        closure = np.eye(len(self.nodes), dtype=bool)
        waiting = np.array([len(up) for up in self._parents], dtype=np.intp)
        ready = [i for i, num in enumerate(waiting) if num == 0]
        for node in ready:  # grows while it is walked
            # All parents are done: one OR over whole rows each.
            closure[node] |= closure[self._parents[node]].any(axis=0)
            for child in self._children[node]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    ready.append(child)
        if len(ready) < len(self.nodes):
            cycle = self._cycle(set(range(len(self.nodes))) - set(ready))
            raise ValueError(
                f'{self.source} has a cycle of is-a relations: {" -> ".join(cycle)}'
            )
        return closure

    def _cycle(self, stuck: set[int]) -> list[str]:
        """A cycle among nodes that all have a parent among them, child first."""
        path, seen = [], {}
        node = min(stuck)
        while node not in seen:
            seen[node] = len(path)
            path.append(node)
            node = next(p for p in self._parents[node] if p in stuck)
        return [self.nodes[i] for i in [*path[seen[node] :], node]]


def _load_json(path: Path):
    if not path.is_file():
        raise FileNotFoundError(f'hierarchy file {str(path)!r} does not exist')
    try:
        return json.loads(path.read_text(encoding='utf-8-sig'))
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path}, line {error.lineno}: not valid JSON ({error.msg})'
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not UTF-8 text ({error})') from error


def _walk_open_images(tree, source: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Names and (child, parent) pairs of a nested tree, parents first.

    A stack and no recursion: depth is not limited by the interpreter.
    """
    nodes: list[str] = []
    edges: list[tuple[str, str]] = []
    tops = tree if isinstance(tree, list) else [tree]
    stack = [(top, None) for top in reversed(tops)]
    while stack:
        node, parent = stack.pop()
        if not isinstance(node, Mapping):
            raise ValueError(
                f'{source}: a node below {parent!r} must be an object with '
                f'"LabelName", got {node!r:.60}'
            )
        name = node.get('LabelName')
        is_top = any(node is top for top in tops)
        if name is None and not is_top:
            raise ValueError(f'{source}: a node below {parent!r} has no "LabelName"')
        if name is not None:
            if not isinstance(name, str) or not name:
                raise ValueError(
                    f'{source}: "LabelName" must be a non-empty text, got {name!r}'
                )
            nodes.append(name)
            if parent is not None:
                edges.append((name, parent))
        below = []
        for key, above in (('Subcategory', name), ('Part', None)):
            inner = node.get(key, [])
            if not isinstance(inner, list):
                raise ValueError(
                    f'{source}: "{key}" of {name!r} must be a list, got {inner!r:.60}'
                )
            below += [(child, above) for child in inner]
        stack.extend(reversed(below))
    return nodes, edges
