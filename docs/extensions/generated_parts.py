"""Parts of pages that are made while the site is built, and the address of its start.

The page of a config folder shows the folder's files, the page of the tools what each
prints on `--help`.
"""

import contextlib
import importlib.util
import io
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARK = '<!-- the help of every tool stands here in the built site -->'
#: Width that argparse wraps to, wherever the site is built.
COLUMNS = '79'
START = """<!doctype html>
<meta charset="utf-8">
<title>mmdet-imbalance</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
<a href="docs/index.html">mmdet-imbalance</a>
"""


def read_source(app, docname: str, source: list[str]) -> None:
    """Handler of `source-read`: adds its generated part to a page."""
    if docname.startswith('configs/'):
        source[0] += listing(ROOT / docname.rsplit('/', 1)[0])
    source[0] = source[0].replace(MARK, tool_help() if MARK in source[0] else '')


def listing(folder: Path) -> str:
    """The configs of a folder, folded."""
    blocks = [
        f':::{{dropdown}} {path.name}\n```{{literalinclude}} {path.name}\n'
        ':language: python\n```\n:::\n'
        for path in sorted(folder.glob('*.py'))
    ]
    return '\n\n## Files\n\n' + '\n'.join(blocks) if blocks else ''


def tool_help() -> str:
    """What each tool prints on `--help`, folded."""
    return '\n'.join(
        f':::{{dropdown}} tools/{path.name}\n```text\n{_help(path)}```\n:::\n'
        for path in sorted((ROOT / 'tools').glob('*.py'))
    )


def _help(path: Path) -> str:
    spec = importlib.util.spec_from_file_location(f'help_of_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = io.StringIO()
    columns = os.environ.get('COLUMNS')
    os.environ['COLUMNS'] = COLUMNS
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            module.main(['--help'])
    finally:
        os.environ.pop('COLUMNS')
        if columns is not None:
            os.environ['COLUMNS'] = columns
    return text.getvalue()


def write_start(app, error) -> None:
    """Handler of `build-finished`: site/index.html leads to the start page."""
    if error is None and app.builder.format == 'html':
        (Path(app.outdir) / 'index.html').write_text(START)


def setup(app) -> dict:
    """Connect the handlers."""
    app.connect('source-read', read_source)
    app.connect('build-finished', write_start)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
