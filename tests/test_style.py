"""House rules that a machine can check."""

import re
import subprocess
import warnings
from pathlib import Path

import pytest
from mmengine.config import Config

from tests.helpers.shell_blocks import ROOT

ADVISED_LINES, MOST_LINES = 300, 400
CONFIGS = sorted((ROOT / 'configs').rglob('*.py'))


def tracked(*suffixes: str) -> list[Path]:
    """Files of the project with one of the suffixes, all without."""
    done = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip('no git checkout: its list of files says what is the project')
    paths = [ROOT / line for line in done.stdout.splitlines()]
    return [p for p in paths if p.is_file() and (not suffixes or p.suffix in suffixes)]


def matches(pattern: str, paths: list[Path]) -> list[str]:
    """'file:line: text' of every line that matches."""
    found = []
    for path in paths:
        for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
            if re.search(pattern, line):
                found.append(f'{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}')
    return found


def test_files_are_short():
    lengths = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for path in tracked('.py')
        if 'tests' not in path.parts
    }
    for path, length in lengths.items():
        if length > ADVISED_LINES:
            warnings.warn(f'{path} has {length} lines', stacklevel=1)
    assert not [str(path) for path, length in lengths.items() if length > MOST_LINES]


def test_no_paths_of_a_machine():
    # The folders are put together here so that this file does not find itself.
    folders = '|'.join(['work', 'tmp', 'root', 'home', 'mnt', 'farm'])
    assert not matches(rf'(^|[^\w.)}}])/({folders})/[a-z]', tracked())


def test_no_hosts_of_registries():
    hosts = '|'.join(['pypi', 'pythonhosted', 'download.pytorch', 'npmjs'])
    assert not matches(rf'({hosts})\.(org|com)', tracked())


def test_nothing_is_left_for_later():
    words = '|'.join(['TO' + 'DO', 'FIX' + 'ME', 'X' * 3])
    assert not matches(rf'\b({words})\b', tracked('.py', '.sh', '.md', '.yml', ''))


def test_no_module_is_called_utils():
    assert not [p for p in tracked('.py') if re.match(r'utils?$', p.stem)]


def test_core_imports_no_host():
    core = [p for p in tracked('.py') if 'core' in p.relative_to(ROOT).parts[:2]]
    core.append(ROOT / 'mmdet_imbalance' / 'functional.py')
    host = r'^\s*(from|import) (mmengine|mmcv|mmdet)\b'
    assert not matches(host, [p for p in core if 'tests' not in p.parts])


@pytest.mark.parametrize(
    'path', CONFIGS, ids=[str(p.relative_to(ROOT / 'configs')) for p in CONFIGS]
)
def test_config_parses_and_is_a_diff(path):
    Config.fromfile(str(path))
    code = [
        line
        for line in path.read_text().splitlines()
        if line.strip() and not line.lstrip().startswith('#')
    ]
    if '_base_' not in path.relative_to(ROOT / 'configs').parts:
        assert len(code) <= 40, 'a config is a diff; move what is shared to _base_'
        assert re.search(r'^_base_\s*=', path.read_text(), re.MULTILINE)
