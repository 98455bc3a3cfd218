"""The commands of README.md and of the documents do what they say, run as written.

What each would need of the reader's is made up: see `helpers/document_stage.py`.
`test_docs_commands.py` checks the lines that cannot be run here.
"""

from pathlib import Path

import pytest

from tests.helpers.document_stage import Stage
from tests.helpers.shell_blocks import SHELLS, blocks, command_lines
from tests.test_docs_commands import DOCUMENTS, ROOT


def tool_commands(path: Path) -> list[list[str]]:
    """Commands of a document that call a tool, as [NAME, argument…]."""
    found = []
    for block in blocks(path.read_text(), SHELLS):
        for words in command_lines(block):
            if words[:2] == ['make', 'train']:
                values = dict(word.split('=', 1) for word in words[2:])
                found.append(['train', values['CONFIG'], '--data-root', values['DATA']])
            elif words[0] == 'python' and words[1].startswith('tools/'):
                found.append([Path(words[1]).stem, *words[2:]])
    return found


def marked(path: Path):
    """The README runs with every test; the others are many and take longer."""
    name = str(path.relative_to(ROOT))
    marks = () if name == 'README.md' else pytest.mark.slow
    return pytest.param(path, marks=marks, id=name)


@pytest.mark.parametrize('path', [marked(p) for p in DOCUMENTS if tool_commands(p)])
def test_commands_of_documents_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMDET_IMBALANCE_TRACEBACK', '1')
    # Laying out the logged config takes longer than the training.
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)
    )
    stage = Stage(tmp_path / 'stage')
    commands = tool_commands(path)
    for at, (name, *words) in enumerate(commands, 1):
        later = [arguments for _, *arguments in commands[at:]]
        assert stage.run(name, words, later) == 0, ' '.join([name, *words])
