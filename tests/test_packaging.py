"""What is built, what it requires, what it ships, and the commands that set it up."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'
# fmt: off
INGREDIENTS = (
    'setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml', 'LICENSE', 'NOTICE',
    'README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'CITATION.cff',
    'mmdet_imbalance', 'configs', 'tools', 'requirements',
)
# fmt: on


def run(*command: str | Path, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


def requirement_lines(name: str) -> list[str]:
    lines = (REQUIREMENTS / f'{name}.txt').read_text().splitlines()
    return [line for raw in lines if (line := raw.split('#')[0].strip())]


def build_wheel(source: Path, out: Path) -> Path:
    done = run(
        *(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation'),
        *('--disable-pip-version-check', '-w', out, source),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return next(out.glob('*.whl'))


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    """Copy of the project, so that building leaves its folder clean."""
    copy = tmp_path_factory.mktemp('tree')
    for name in INGREDIENTS:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns('__pycache__', '.mim')
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        else:
            shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope='module')
def sdist(tree, tmp_path_factory) -> Path:
    """Source distribution of the project."""
    out = tmp_path_factory.mktemp('sdist')
    done = run(sys.executable, 'setup.py', '-q', 'sdist', '-d', out, cwd=tree)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(out.glob('*.tar.gz'))


@pytest.fixture(scope='module')
def installed(sdist, tmp_path_factory) -> Path:
    """The wheel that the source distribution builds, unpacked as if installed."""
    folder = tmp_path_factory.mktemp('unpacked')
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter='data')
    source = next(path for path in folder.iterdir() if path.is_dir())
    wheel = build_wheel(source, tmp_path_factory.mktemp('wheel'))
    target = tmp_path_factory.mktemp('site-packages')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def names_below(folder: Path, *suffixes: str) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and path.suffix in suffixes
    }


def test_wheel_ships_configs_and_tools(tree, installed):
    mim = installed / 'mmdet_imbalance' / '.mim'
    for name in ('configs', 'tools'):
        expected = names_below(tree / name, '.py', '.sh', '.yml')
        assert expected
        assert expected == names_below(mim / name, '.py', '.sh', '.yml')
    assert (mim / 'model-index.yml').is_file()
    assert (installed / 'mmdet_imbalance' / 'py.typed').is_file()
    assert not list(installed.rglob('__pycache__'))


def test_wheel_carries_the_licences_of_what_it_ships(tree, installed):
    for name in ('LICENSE', 'NOTICE'):
        (shipped,) = installed.glob(f'*.dist-info/**/{name}')
        assert shipped.read_text() == (tree / name).read_text()


def test_wheel_holds_every_module_and_nothing_else(tree, installed):
    shipped = names_below(installed / 'mmdet_imbalance', '.py')
    modules = {name for name in shipped if not name.startswith('.mim')}
    assert modules == names_below(tree / 'mmdet_imbalance', '.py')
    top = {path.name for path in installed.iterdir()}
    assert {name.split('-')[0] for name in top} == {'mmdet_imbalance'}


def test_metadata_names_the_license_and_pins_neither_torch_nor_the_host(installed):
    dist_info = next(installed.glob('*.dist-info'))
    metadata = message_from_string((dist_info / 'METADATA').read_text())
    assert 'Apache-2.0' in (metadata['License-Expression'] or metadata['License'])
    assert list(dist_info.rglob('LICENSE'))
    required = [Requirement(text) for text in metadata.get_all('Requires-Dist')]
    always = {r.name for r in required if r.marker is None}
    assert always == {Requirement(r).name for r in requirement_lines('runtime')}
    foreign = re.compile(r'^(torch|mmengine|mmcv|mmdet|onedl-.*)$')
    assert not [name for name in always if foreign.match(name)]
    for extra in ('host', 'tests', 'docs', 'lint'):
        expected = {Requirement(line).name for line in requirement_lines(extra)}
        given = {
            r.name for r in required if r.marker and r.marker.evaluate({'extra': extra})
        }
        assert given == expected, extra
    assert 'all' in metadata.get_all('Provides-Extra')


def test_tools_of_the_installed_package_run_anywhere(installed, tmp_path):
    tool = installed / 'mmdet_imbalance' / '.mim' / 'tools' / 'train.py'
    env = {**os.environ, 'PYTHONPATH': str(installed)}
    done = run(sys.executable, tool, 'configs/no/such.py', cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert done.stderr.startswith('error: config not found: configs/no/such.py')
    found = run(
        *(sys.executable, '-c'),
        'from mmdet_imbalance.cli.config import find_config\n'
        "print(find_config('tools/train.py'))",
        cwd=tmp_path,
        env=env,
    )
    assert found.stdout.strip() == str(tool)


def test_editable_install_links_configs_and_tools(tmp_path):
    copy = tmp_path / 'copy'
    copy.mkdir()
    for name in ('setup.py', 'pyproject.toml', 'model-index.yml', 'LICENSE'):
        shutil.copy2(ROOT / name, copy / name)
    shutil.copytree(ROOT / 'requirements', copy / 'requirements')
    (copy / 'configs').mkdir()
    (copy / 'tools').mkdir()
    (copy / 'mmdet_imbalance').mkdir()
    for name in ('__init__.py', 'version.py'):
        shutil.copy2(ROOT / 'mmdet_imbalance' / name, copy / 'mmdet_imbalance' / name)
    done = run(
        *(sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-build-isolation'),
        *('--disable-pip-version-check', '--target', tmp_path / 'site', '-e', copy),
    )
    if done.returncode and 'editable' in done.stderr.lower():
        pytest.skip('this pip installs nothing editable into a folder')
    assert done.returncode == 0, done.stderr[-2000:]
    (copy / 'configs' / 'new.py').write_text('x = 1\n')
    mim = copy / 'mmdet_imbalance' / '.mim'
    assert (mim / 'configs' / 'new.py').is_file()
    assert (mim / 'tools').is_dir()


def test_stand_in_for_opencv_has_no_files_and_satisfies_the_host(tmp_path):
    source = tmp_path / 'source'
    shutil.copytree(REQUIREMENTS / 'opencv-python', source)
    wheel = build_wheel(source, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        assert all('.dist-info/' in name for name in archive.namelist())
        text = archive.read(next(n for n in archive.namelist() if 'METADATA' in n))
    metadata = message_from_string(text.decode())
    assert metadata['Name'] == 'opencv-python'
    for specifier in ('<4.13', '>=3.4.5', '>=3'):  # imaug, imagecorruptions, mmengine
        assert Requirement(f'opencv-python{specifier}').specifier.contains(
            metadata['Version']
        )
    assert Requirement(metadata['Requires-Dist']).name == 'opencv-python-headless'


@pytest.mark.parametrize(
    'path', sorted(REQUIREMENTS.glob('*.txt')), ids=lambda path: path.stem
)
def test_requirement_files_parse_and_name_nothing_twice(path):
    names = [Requirement(line).name for line in requirement_lines(path.stem)]
    assert len(names) == len(set(names))


def test_host_is_pinned_exactly():
    for name in ('host', 'host-upstream'):
        for line in requirement_lines(name):
            assert [s.operator for s in Requirement(line).specifier] == ['==']


def test_model_index_lists_every_metafile():
    listed = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import'] or []
    there = [str(p.relative_to(ROOT)) for p in (ROOT / 'configs').rglob('metafile.yml')]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize(
    'path',
    sorted((ROOT / 'configs').rglob('metafile.yml')),
    ids=lambda path: path.parent.name,
)
def test_metafile_names_configs_that_exist(path):
    content = yaml.safe_load(path.read_text())
    assert content.get('Models') or content.get('Collections')
    models = content.get('Models') or []
    names = [model['Name'] for model in models]
    assert len(names) == len(set(names))
    for model in models:
        assert (ROOT / model['Config']).is_file(), model['Config']


def dry_run(*arguments: str) -> str:
    # The make that runs the tests hands its own variables down.
    env = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))}
    done = run('make', '--no-print-directory', '-n', *arguments, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_set_up_installs_torch_before_it_compiles_the_host(tmp_path):
    wheels = tmp_path / 'wheels'
    wheels.mkdir()
    text = dry_run('test', f'VENV={tmp_path}/venv', f'WHEELHOUSE={wheels}')
    lines = [line for line in text.splitlines() if '-m pip' in line]
    lines = [line for line in lines if ' install ' in line]
    order = [
        next(i for i, line in enumerate(lines) if mark in line)
        for mark in ('torch==2.13.0', 'opencv-python', 'host.txt', "-e '.[tests")
    ]
    assert order == sorted(order)
    host = lines[order[2]]
    assert '-g0' in host
    assert '--no-build-isolation' in host
    assert all(f"--find-links '{wheels}'" in line for line in lines)
    assert any(Requirement(r).name == 'setuptools' for r in requirement_lines('build'))


def test_set_up_of_upstream_has_an_environment_of_its_own():
    # All of it, also where the environment is there already.
    text = dry_run('-B', 'test-upstream')
    assert 'host-upstream.txt' in text
    assert '.venv-upstream/bin/python -m pytest' in text


def test_make_says_what_is_missing(tmp_path):
    done = run(
        *('make', 'install', f'VENV={tmp_path}/venv', 'WHEELHOUSE=no-such-folder'),
        cwd=ROOT,
    )
    assert done.returncode != 0
    assert 'error: WHEELHOUSE=no-such-folder is not a folder' in done.stderr
    done = run(
        *('make', 'install', f'VENV={tmp_path}/venv', 'PYTHON=no-such-python'), cwd=ROOT
    )
    assert done.returncode != 0
    assert 'error: no-such-python not found' in done.stderr
    assert not (tmp_path / 'venv').exists()


@pytest.mark.parametrize(
    ('closing', 'status', 'expected'),
    [
        ('====== 12 passed, 1 skipped in 3.21s ======', 0, 0),
        ('12 passed in 123.45s (0:02:03)', 0, 0),
        ('====== 1 failed, 12 passed in 3.21s ======', 2, 2),
        ('====== 3 skipped in 0.10s ======', 0, 1),
        ('====== no tests ran in 0.01s ======', 0, 1),
        ('', 0, 1),
        ('Killed', 137, 137),
    ],
)
@pytest.mark.parametrize('wheels', [True, False])
def test_ci_fails_when_no_test_ran(closing, status, expected, wheels, tmp_path):
    clone, tools = tmp_path / 'clone', tmp_path / 'bin'
    (clone / '.ci').mkdir(parents=True)
    tools.mkdir()
    shutil.copy2(ROOT / '.ci' / 'run', clone / '.ci' / 'run')
    make = tools / 'make'
    make.write_text(f'#!/bin/sh\necho "make $*"\necho "{closing}"\nexit {status}\n')
    make.chmod(0o755)
    if wheels:
        (tmp_path / 'shared' / 'wheels').mkdir(parents=True)
    done = run(
        *('bash', clone / '.ci' / 'run'),
        env={'PATH': f'{tools}:/usr/bin:/bin'},
        cwd=tmp_path,
    )
    assert done.returncode == expected
    command = done.stdout.splitlines()[0]
    assert command == 'make test' + wheels * ' WHEELHOUSE=../shared/wheels'
    if expected == 0:
        assert done.stdout.splitlines()[-1] == closing
