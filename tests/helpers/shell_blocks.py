"""Command lines in Markdown, and a check that each would do what it says.

A docs author writes a plain ```bash block, nothing else. What is checked of a line
depends on its command: `make` targets and variables exist, options of tools are in the
tool's `--help`, paths under configs/ exist, extras of the package exist. Words in
capitals, in <angle brackets> or with an ellipsis stand for something of the reader's.
"""

import contextlib
import functools
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.tools import load_tool

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r'^( *)```(\w*)[^\n]*\n(.*?)^\1```', re.MULTILINE | re.DOTALL)
SHELLS = ('bash', 'sh', 'shell', 'console')
#: Commands that say all there is to say by themselves.
# fmt: off
PLAIN = frozenset((
    '.', 'cat', 'cd', 'cp', 'curl', 'deactivate', 'echo', 'export', 'git', 'head', 'ln',
    'ls', 'mkdir', 'mv', 'pytest', 'ruff', 'set', 'source', 'tar', 'tensorboard',
    'unzip', 'virtualenv', 'wget',
))
# fmt: on
PLACEHOLDER = re.compile(r'^[A-Z][A-Z0-9_.…]*$|[<>…]|\.\.\.')
ASSIGNMENT = re.compile(r'^([A-Za-z_]\w*)=(.*)$', re.DOTALL)


def blocks(markdown: str, languages: tuple[str, ...]) -> Iterator[str]:
    """Contents of the fenced code blocks in one of the languages."""
    for _, language, content in FENCE.findall(markdown):
        if language in languages:
            yield content


def command_lines(block: str) -> Iterator[list[str]]:
    """Words of each command in a shell block."""
    for line in block.replace('\\\n', ' ').splitlines():
        words = shlex.split(line.strip().removeprefix('$ '), comments=True)
        command: list[str] = []
        for word in [*words, ';']:
            if word not in (';', '&&', '||', '|', '&'):
                command.append(word)
            elif command:
                yield command
                command = []


def problems(words: list[str]) -> list[str]:
    """What is wrong with a command, in words; an empty list when nothing is."""
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words or PLACEHOLDER.search(words[0]):
        return []
    found = [
        f'{path} does not exist'
        for word in ' '.join(words).split()
        if (path := _project_path(word)) and not list(ROOT.glob(path))
    ]
    command, *arguments = words
    if command.startswith('python') or command.endswith('/python'):
        return found + _python(arguments)
    if command in ('bash', 'sh', 'nohup', 'time', 'nice'):
        return found + problems(arguments)
    if command == 'make':
        return found + _make(arguments)
    if command == 'pip':
        return found + _pip(arguments)
    if command.startswith('tools/'):
        return found + _tool(command, arguments)
    if command not in PLAIN:
        found.append(f'unknown command {command!r} (a typo, or a new word for PLAIN)')
    return found


def _project_path(word: str) -> str | None:
    """The part of a word that is a path of this project, if any."""
    value = word.split('=', 1)[-1]
    is_path = value.startswith(('configs/', 'tools/', 'benchmarks/', 'tests/', 'docs/'))
    return value if is_path and not PLACEHOLDER.search(value) else None


def _python(arguments: list[str]) -> list[str]:
    if not arguments:
        return []
    if arguments[0] == '-m':
        if arguments[1] == 'pip':
            return _pip(arguments[2:])
        missing = importlib.util.find_spec(arguments[1].split('.')[0]) is None
        return [f'no module {arguments[1]!r}'] if missing else []
    if arguments[0].startswith('tools/'):
        return _tool(arguments[0], arguments[1:])
    return []


def _pip(arguments: list[str]) -> list[str]:
    setup = (ROOT / 'setup.py').read_text()
    return [
        f'the package has no extra {extra!r}'
        for word in arguments
        for extra in re.findall(r'^(?:\.|mmdet-imbalance)\[(.*)\]', word)
        for extra in extra.split(',')
        if f"'{extra}':" not in setup
    ]


def _make(arguments: list[str]) -> list[str]:
    makefile = (ROOT / 'Makefile').read_text()
    targets = re.findall(r'^([\w-]+):', makefile, re.MULTILINE)
    known = {*re.findall(r'^(\w+) \?=', makefile, re.MULTILINE), 'CONFIG', 'DATA'}
    found = []
    for word in arguments:
        if match := ASSIGNMENT.match(word):
            if match[1] not in known:
                found.append(f'Makefile reads no variable {match[1]!r}')
        elif not word.startswith('-') and word not in targets and word != '…':
            found.append(f'Makefile has no target {word!r}')
    return found


def _tool(path: str, arguments: list[str]) -> list[str]:
    if not (ROOT / path).is_file():
        return []  # reported as a missing path
    if path.endswith('.sh'):
        tool = re.search(r'\$tools/(\w+)\.py', (ROOT / path).read_text())
        name = tool[1] if tool else None
    else:
        name = Path(path).stem
    if name is None:
        return []
    known = tool_options(name)
    used = [word.split('=')[0] for word in arguments if re.match(r'--?[a-zA-Z]', word)]
    return [f'{path} has no option {word!r}' for word in used if word not in known]


@functools.cache
def tool_help(name: str) -> str:
    """What tools/NAME.py prints on `--help`."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        load_tool(name).main(['--help'])
    return text.getvalue()


def tool_options(name: str) -> set[str]:
    """Options of a tool, long and short."""
    options = tool_help(name).split('\nexample', 1)[0]
    return set(re.findall(r'(?<![\w-])--?[a-zA-Z][\w-]*', options))
