"""Every command and Python block of the documents; see helpers/shell_blocks.py."""

import ast
import textwrap

import pytest

from tests.helpers.shell_blocks import (
    ROOT,
    SHELLS,
    blocks,
    command_lines,
    problems,
    tool_help,
)
from tests.helpers.tools import tool_names

DOCUMENTS = sorted(
    path
    for pattern in ('*.md', 'docs/**/*.md', 'configs/**/*.md', 'benchmarks/**/*.md')
    for path in ROOT.glob(pattern)
)
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


@pytest.mark.parametrize('path', DOCUMENTS, ids=IDS)
def test_commands_of_documents_are_right(path):
    wrong = [
        f'{" ".join(words)}: {problem}'
        for block in blocks(path.read_text(), SHELLS)
        for words in command_lines(block)
        for problem in problems(words)
    ]
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('path', DOCUMENTS, ids=IDS)
def test_python_blocks_of_documents_parse(path):
    for block in blocks(path.read_text(), ('python', 'py')):
        code = textwrap.dedent(block)
        if not code.lstrip().startswith('>>>'):
            ast.parse(code)


@pytest.mark.parametrize('name', tool_names())
def test_help_of_tools_has_an_example_that_is_right(name):
    text = tool_help(name)
    assert text.startswith('usage:')
    assert '\nexample' in text, 'no example in --help'
    example = text.split('\nexample', 1)[1].split('\n', 1)[1]
    wrong = [p for words in command_lines(example) for p in problems(words)]
    assert not wrong, '\n'.join(wrong)
    assert f'tools/{name}.py' in example


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('make demo', ''),
        ('make test WHEELHOUSE=DIR', ''),
        ('make tset', "no target 'tset'"),
        ('make test WHEELHOSE=DIR', "no variable 'WHEELHOSE'"),
        ('make train CONFIG=configs/no_such/file.py', 'does not exist'),
        ('python tools/train.py CONFIG --amp --resume', ''),
        ('python tools/train.py CONFIG --apm', "no option '--apm'"),
        ('CUDA_VISIBLE_DEVICES=0 tools/dist_train.sh CONFIG 8 --amp', ''),
        ('bash tools/dist_train.sh CONFIG 8 --apm', "no option '--apm'"),
        ('python tools/no_such.py', 'does not exist'),
        ('pip install "mmdet-imbalance[host]"', ''),
        ("pip install -e '.[hots]'", "no extra 'hots'"),
        ('python -m no_such_module', 'no module'),
        ('mkae test', "unknown command 'mkae'"),
        ('cd somewhere && make tset', "no target 'tset'"),
    ],
)
def test_checker_finds_what_is_wrong(line, expected):
    found = [p for words in command_lines(f'$ {line}  # why') for p in problems(words)]
    if expected:
        assert len(found) == 1
        assert expected in found[0]
    else:
        assert not found


def test_blocks_of_other_languages_are_left_alone():
    text = (
        '```bash\nmake a\n```\n\n- item\n\n  ```sh\n  make b \\\n    c\n  ```\n'
        '```text\nx\n```\n'
    )
    found = [w for block in blocks(text, SHELLS) for w in command_lines(block)]
    assert found == [['make', 'a'], ['make', 'b', 'c']]
