"""Nested dicts as config source, with comments above the lines that they explain."""

import keyword
import textwrap
from collections.abc import Mapping
from typing import Any

WIDTH = 88
INDENT = 4


class Code(str):
    """An expression that stands in the source as it is: `num_classes`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def assignment(name: str, value: Any, comments: Mapping[str, list[str]] = {}) -> str:
    """Source of `name = value`.

    Args:
        name: a variable.
        value: dicts, lists, tuples, plain values and `Code`.
        comments: paragraphs by dotted path, which begins with `name`.
    """
    lines = [*_comment(comments.get(name, []), 0)]
    return '\n'.join([*lines, f'{name} = {_text(value, 0, name, comments)}'])


def comment(*paragraphs: str, indent: int = 0) -> str:
    """Comment lines, each paragraph wrapped for itself."""
    return '\n'.join(_comment(paragraphs, indent))


def _comment(paragraphs, indent: int) -> list[str]:
    lead = ' ' * indent + '# '
    return [
        line
        for text in paragraphs
        for line in textwrap.wrap(
            text,
            WIDTH,
            initial_indent=lead,
            subsequent_indent=lead,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _text(value: Any, indent: int, path: str, comments: Mapping[str, list[str]]) -> str:
    if not isinstance(value, dict | list | tuple):
        return repr(value)
    explained = any(key.startswith(f'{path}.') for key in comments)
    flat = _flat(value)
    if not explained and len(flat) + indent + len(path.split('.')[-1]) + 4 <= WIDTH:
        return flat
    inner = indent + INDENT
    lines: list[str] = []
    for key, item in _items(value):
        below = f'{path}.{key}'
        lines += _comment(comments.get(below, []), inner)
        lead = '' if isinstance(value, list | tuple) else _key(value, key)
        lines.append(f'{" " * inner}{lead}{_text(item, inner, below, comments)},')
    opening, closing = _brackets(value)
    return '\n'.join([opening, *lines, ' ' * indent + closing])


def _flat(value: Any) -> str:
    if not isinstance(value, dict | list | tuple):
        return repr(value)
    opening, closing = _brackets(value)
    is_sequence = isinstance(value, list | tuple)
    parts = [
        ('' if is_sequence else _key(value, key)) + _flat(item)
        for key, item in _items(value)
    ]
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    return opening + ', '.join(parts) + comma + closing


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items() if isinstance(value, dict) else enumerate(value))


def _is_call(value: dict) -> bool:
    # Python folds other letters: `dict(ﬁsh=1)` has the key 'fish'.
    return all(
        isinstance(key, str)
        and key.isidentifier()
        and key.isascii()
        and not keyword.iskeyword(key)
        for key in value
    )


def _key(value: dict, key: Any) -> str:
    return f'{key}=' if _is_call(value) else f'{key!r}: '


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        return ('dict(', ')') if _is_call(value) else ('{', '}')
    return ('[', ']') if isinstance(value, list) else ('(', ')')
