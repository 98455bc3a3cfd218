"""A value of a YAML file that knows where it stands, for errors that say so."""

import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from mmdet_imbalance.cli.errors import ToolError


class Node:
    """A value and its place.

    Args:
        path: file.
        key: dotted keys that lead to the value; '' for the whole file.
        value: what YAML made of it.
    """

    def __init__(self, path: Path, key: str, value: Any) -> None:
        self.path, self.key, self.value = path, key, value

    def fail(self, message: str) -> NoReturn:
        """Raise ToolError that names file and key."""
        raise ToolError(f'{self.path}: {self.key or "the file"}: {message}')

    def _child(self, key: Any, value: Any) -> 'Node':
        return Node(self.path, f'{self.key}.{key}' if self.key else str(key), value)

    def keys(self, *needed: str, maybe: Sequence[str] = ()) -> None:
        """Check that the value is a mapping with these keys and no others."""
        if not isinstance(self.value, dict):
            self.fail(f'must be a mapping, got {self.value!r}')
        known = [*needed, *maybe]
        for key in self.value:
            if key not in known:
                close = get_close_matches(str(key), known, n=1)
                hint = f'did you mean {close[0]!r}?' if close else f'known: {known}'
                self._child(key, None).fail(f'unknown key; {hint}')
        for key in needed:
            if key not in self.value:
                self.fail(f'the key {key!r} is missing')

    def has(self, key: str) -> bool:
        """Whether a key is there, with or without a value."""
        return key in self.value

    def at(self, key: str) -> 'Node':
        """Value of a key."""
        return self._child(key, self.value[key])

    def entries(self) -> Iterator[tuple[str, 'Node']]:
        """Keys and values of a mapping that is not empty."""
        if not isinstance(self.value, dict) or not self.value:
            self.fail(f'must be a mapping that is not empty, got {self.value!r}')
        for key, value in self.value.items():
            child = self._child(key, value)
            if not isinstance(key, str):
                child.fail(f'the key must be text, got {key!r}')
            yield key, child

    def items(self) -> list['Node']:
        """Values of a list that is not empty."""
        if not isinstance(self.value, list) or not self.value:
            self.fail(f'must be a list that is not empty, got {self.value!r}')
        return [self._child(i, value) for i, value in enumerate(self.value)]

    def text(self) -> str:
        """The value, which must be text that is not empty."""
        if not isinstance(self.value, str) or not self.value.strip():
            self.fail(f'must be text, got {self.value!r}')
        return ' '.join(self.value.split())

    def number(self) -> float:
        """The value, which must be a finite number."""
        is_number = isinstance(self.value, int | float)
        if not is_number or isinstance(self.value, bool):
            self.fail(f'must be a number, got {self.value!r}')
        if not math.isfinite(self.value):
            self.fail(f'must be finite, got {self.value!r}')
        return float(self.value)

    def whole(self, least: int) -> int:
        """The value, which must be a whole number."""
        is_whole = isinstance(self.value, int) and not isinstance(self.value, bool)
        if not is_whole or self.value < least:
            self.fail(f'must be a whole number from {least} on, got {self.value!r}')
        return self.value

    def one_of(self, known: Sequence[str]) -> str:
        """The value, which must be one of some words."""
        if self.value not in known:
            close = get_close_matches(str(self.value), known, n=1)
            hint = f'; did you mean {close[0]!r}?' if close else ''
            self.fail(f'must be one of {list(known)}, got {self.value!r}{hint}')
        return self.value

    def check_plain(self) -> None:
        """Check that the value can be written as KEY=VALUE on a command line."""
        if isinstance(self.value, dict):
            self.fail('must be no mapping: write dotted keys, one for each value')
        if isinstance(self.value, list):
            for i, value in enumerate(self.value):
                self._child(i, value).check_plain()
        elif isinstance(self.value, str):
            if not self.value or any(c in ',[]()' or c.isspace() for c in self.value):
                self.fail(f'text without spaces, commas and brackets, {self.value!r}')
        elif self.value is not None and not isinstance(self.value, bool | int | float):
            self.fail(f'must be a number, text or a list of them, got {self.value!r}')
