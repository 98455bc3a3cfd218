"""The site that `make docs` builds: without a warning, complete, needing no network."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmdet_imbalance import functional
from tests.helpers.doc_pages import pages
from tests.helpers.shell_blocks import ROOT

NEEDED = ('sphinx', 'myst_parser', 'furo', 'sphinx_copybutton', 'sphinx_design')
MISSING = [n for n in (*NEEDED, 'math_core') if not importlib.util.find_spec(n)]
#: Attributes through which a browser fetches something by itself.
FETCHED = {'script': 'src', 'img': 'src', 'iframe': 'src', 'link': 'href'}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f'{", ".join(MISSING)} not installed: make docs, or pip install '
        '-r requirements/docs.txt',
    ),
]


class Page(HTMLParser):
    """Addresses and anchors of a page of the site."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.formulas = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if 'id' in attributes:
            self.ids.add(attributes['id'])
        if tag in FETCHED and attributes.get('rel') not in (
            'canonical',
            'next',
            'prev',
        ):
            self.fetched.append(attributes.get(FETCHED[tag]) or '')
        if tag == 'a':
            self.links.append(attributes.get('href') or '')
        self.formulas += tag == 'math'


@functools.cache
def page(path: Path) -> Page:
    return Page(path)


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` does."""
    out = tmp_path_factory.mktemp('site')
    recipe = (ROOT / 'Makefile').read_text().split('\ndocs:', 1)[1].split('\n\n', 1)[0]
    options = re.search(r'-m sphinx (.*?) -d', recipe)[1].split()
    assert '-W' in options
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', *options, '-d', out / 'doctrees', ROOT, out],
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def html_pages(site: Path) -> list[Path]:
    return sorted(site.rglob('*.html'))


def test_every_page_is_built(site):
    for source in pages():
        assert (site / source.relative_to(ROOT).with_suffix('.html')).is_file()
    assert 'url=docs/index.html' in (site / 'index.html').read_text()


def test_nothing_is_fetched_from_another_host(site):
    far = [
        f'{path.relative_to(site)}: {address}'
        for path in html_pages(site)
        for address in page(path).fetched
        if re.match(r'(https?:)?//', address)
    ]
    far += [
        f'{path.relative_to(site)}: {match}'
        for path in site.rglob('*.css')
        for match in re.findall(
            r'(?:url\(|@import )[\'"]?((?:https?:)?//[^\'")]+)', path.read_text()
        )
    ]
    assert far == []


def test_links_and_anchors_of_the_site_lead_somewhere(site):
    broken = []
    for path in html_pages(site):
        for link in page(path).links:
            target, _, anchor = link.partition('#')
            if re.match(r'[a-z]+:', link) or not link:
                continue
            file = (path.parent / target.split('?')[0]).resolve() if target else path
            if not file.exists():
                broken.append(f'{path.relative_to(site)}: {link}')
            elif anchor and file.suffix == '.html' and anchor not in page(file).ids:
                broken.append(f'{path.relative_to(site)}: {link} (no such anchor)')
    assert broken == []


def test_formulas_are_drawn_without_a_script(site):
    for source in pages():
        block_formulas = source.read_text().count('$$') // 2
        path = site / source.relative_to(ROOT).with_suffix('.html')
        assert page(path).formulas >= block_formulas
        assert '$$' not in re.sub(r'<pre>.*?</pre>', '', path.read_text(), flags=re.S)


def test_pure_functions_have_an_anchor_each(site):
    ids = page(site / 'docs' / 'api' / 'functional.html').ids
    names = {f'{functional.__name__}.{name}' for name in functional.__all__}
    assert names <= ids


def test_options_of_tools_and_files_of_folders_are_shown(site):
    tools = (site / 'docs' / 'tools.html').read_text()
    assert tools.count('show this help message and exit') == len(
        list((ROOT / 'tools').glob('*.py'))
    )
    folder = (site / 'configs' / 'ghm' / 'README.html').read_text()
    for path in (ROOT / 'configs' / 'ghm').glob('*.py'):
        assert path.name in folder
    assert 'GHMRegressionLoss' in folder
