"""What stands in the pages of the user guide: headings, links, tables, snippets."""

import ast
import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.registry import Registry

import mmdet_imbalance.registry as registries
from mmdet_imbalance.datasets.samplers.stream_sampler import StreamSampler
from mmdet_imbalance.models.losses.base import ClassificationLoss
from mmdet_imbalance.models.losses.multi_label import MultiLabelLoss
from tests.helpers.shell_blocks import ROOT, blocks
from tests.helpers.tools import load_tool

DOCS = ROOT / 'docs'
#: Pages that stand elsewhere in the repository.
OUTSIDE = ('CONTRIBUTING.md', 'CHANGELOG.md', 'configs/*/README.md')
FENCED = re.compile(r'^( *)(```|:::).*?^\1\2\s*$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')
HEADING = re.compile(r'^(#+) +(.+?) *$', re.MULTILINE)
#: Bases that a page may document beside what is registered.
BASES = (ClassificationLoss, MultiLabelLoss, StreamSampler)
#: Arguments that the host or another part hands over, not the author of a config.
HANDED_OVER = {'dataset', 'context', 'in_features', 'out_features'}


class Row(NamedTuple):
    """A row of a parameter table, cells as they are written."""

    parameter: str
    default: str
    published: str
    meaning: str


def pages() -> list[Path]:
    """Every page of the site."""
    found = [
        *DOCS.rglob('*.md'),
        *(p for pattern in OUTSIDE for p in ROOT.glob(pattern)),
    ]
    return sorted(found)


def prose(markdown: str) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub('', markdown)


def headings(markdown: str) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    return [(len(m[1]), m[2]) for m in HEADING.finditer(prose(markdown))]


def anchors(markdown: str) -> set[str]:
    """Anchors of the headings, as code hosts and the site make them."""
    found: list[str] = []
    for _, text in headings(markdown):
        text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', text)
        slug = re.sub(r'[^\w\- ]', '', text.lower()).replace(' ', '-')
        found.append(slug if slug not in found else f'{slug}-{found.count(slug)}')
    return set(found)


def links(markdown: str) -> Iterator[str]:
    """Targets of all links outside of code."""
    text = re.sub(r'`[^`\n]*`', '``', prose(markdown))
    yield from (match[1] for match in LINK.finditer(text))


def broken_links(path: Path) -> list[str]:
    """Links of a document that lead to no file of the repository, or no anchor."""
    found = []
    for link in links(path.read_text()):
        if re.match(r'[a-z]+:', link):
            continue
        target, _, anchor = link.partition('#')
        file = path.parent / target if target else path
        if not file.exists():
            found.append(f'{link}: no such file')
        elif anchor and anchor not in anchors(file.read_text()):
            found.append(f'{link}: no such heading')
    return found


def toctree_entries(path: Path) -> list[str]:
    """Pages that the toctrees of a page list, paths from the root, globs resolved."""
    found = []
    for block in re.findall(
        r'^```\{toctree\}\n(.*?)^```', path.read_text(), re.M | re.S
    ):
        for line in block.splitlines():
            if line and not line.startswith(':'):
                here = posixpath.relpath(str(path.parent), str(ROOT))
                pattern = posixpath.normpath(f'{here}/{line}.md')
                matches = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob(pattern))
                found += matches or [f'{pattern} (nothing there)']
    return found


def parameter_tables(path: Path) -> dict[str, list[Row]]:
    """Tables of parameters of a page, by the class or tool in the heading above."""
    found: dict[str, list[Row]] = {}
    for part in re.split(r'^### ', prose(path.read_text()), flags=re.MULTILINE)[1:]:
        name = part.split('\n', 1)[0].strip(' `')
        part = re.split(r'^## ', part, flags=re.MULTILINE)[0]
        rows = []
        for line in part.splitlines():
            if line.startswith('| `'):
                cells = [cell.strip() for cell in line.strip('|').split('|')]
                rows.append(Row(*cells))
        found[name] = rows
    return found


def registered() -> dict[str, type]:
    """Every class that a config can name with our prefix."""
    found = {}
    for registry in vars(registries).values():
        if isinstance(registry, Registry) and registry.scope == 'mmdet_imbalance':
            registry.import_from_location()
            found.update(registry.module_dict)
    return found


def named_class(name: str) -> type:
    """A registered class, or one of the documented bases."""
    return {**registered(), **{base.__name__: base for base in BASES}}[name]


def own_parameters(cls: type) -> dict[str, Any]:
    """Parameters that a class names itself, without those that are handed over."""
    init = vars(cls).get('__init__')
    return {} if init is None else _parameters(init)


def all_parameters(cls: type) -> dict[str, Any]:
    """Parameters of a class and, where it takes `**kwargs`, of its bases."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        init = vars(base).get('__init__')
        if init is None:
            continue
        found = {**_parameters(init), **found}
        kinds = [p.kind for p in inspect.signature(init).parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def _parameters(init) -> dict[str, Any]:
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {
        name: parameter.default
        for name, parameter in inspect.signature(init).parameters.items()
        if name not in HANDED_OVER | {'self'} and parameter.kind not in skipped
    }


def tool_parameters(name: str) -> dict[str, Any]:
    """Options of tools/NAME.py with their defaults."""
    arguments = vars(load_tool(name).parse_args(['CONFIG', 'CHECKPOINT']))
    return {f'--{key.replace("_", "-")}': value for key, value in arguments.items()}


def cell_value(cell: str) -> Any:
    """Value of a cell of the column *default*."""
    if cell == 'required':
        return inspect.Parameter.empty
    return as_lists(ast.literal_eval(cell.strip('`')))


def as_lists(value: Any) -> Any:
    """Tuples as lists: a config may write either."""
    if isinstance(value, list | tuple):
        return [as_lists(item) for item in value]
    return value


def configs(path: Path) -> list[str]:
    """Python blocks of a page that are whole configs."""
    return [b for b in blocks(path.read_text(), ('python',)) if b.startswith('_base_')]


def sessions(path: Path) -> list[str]:
    """Python blocks of a page that show a session."""
    return [b for b in blocks(path.read_text(), ('python',)) if b.startswith('>>>')]
