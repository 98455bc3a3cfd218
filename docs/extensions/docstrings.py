"""Makes the project's docstrings, plain text with `code`, into reStructuredText.

Outside of backticks every character stands for itself: `|d|`, `w_c * x` and `**kwargs`
are no markup.
"""

import re

CODE = re.compile(r'(``[^`]+``|`[^`]+`)')
MARKUP = re.compile(r'(?<!\\)([*|\\]|(?<=\w)_(?!\w))')


def plain(lines: list[str]) -> list[str]:
    """Lines of a docstring with what would be markup escaped."""
    text = '\n'.join(lines)
    parts = CODE.split(text)
    parts[::2] = [MARKUP.sub(r'\\\1', part) for part in parts[::2]]
    # Two backticks: a literal, whatever is in it.
    parts[1::2] = [f'``{part.strip("`")}``' for part in parts[1::2]]
    return ''.join(parts).split('\n')


def process_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Handler of `autodoc-process-docstring`; runs before that of napoleon."""
    lines[:] = plain(lines)


def setup(app) -> dict:
    """Connect the handler, before the section titles are looked at."""
    app.connect('autodoc-process-docstring', process_docstring, priority=100)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
