"""Runs the commands of the documents, on tiny data and tiny models.

The tools run as the documents call them, with every option. What stands for something
of the reader's, and what takes hours, is replaced: a config by its shrunken version
(see `shrunken_configs.py`), a checkpoint by the untrained model of that config, folders
by temporary ones. Of the tables of `reproduce.py` only the plan is made, and `--amp` is
left out where no GPU is visible.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.helpers.shrunken_configs import shrink
from tests.helpers.tools import load_tool

#: Stands for CONFIG where a document has named no config before.
DEFAULT_CONFIG = 'hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
#: Tools that take a folder of a run for the results file in it.
READ_RESULTS = ('analyze', 'compare')


class Stage:
    """A folder in which commands of documents can be run.

    Args:
        folder: where what the commands need is made; must not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._configs: dict[str, Path] = {}
        self._named = DEFAULT_CONFIG
        self._results: list[Path] = []

    def run(self, name: str, words: list[str], later: Sequence[list[str]] = ()) -> int:
        """Run `python tools/NAME.py WORDS…`; returns the exit code.

        Args:
            name: the tool.
            words: its arguments, as the document has them.
            later: arguments of the commands that follow in the document. Data made
                without a config are for the first of them that reads their folder.
        """
        config = next((w for w in words if self._is_config(w)), None)
        path = self.config(config or self._reader(words, later) or 'CONFIG')
        words = self._options(name, words)
        replaced = [self._replaced(word, config, path) for word in words]
        return load_tool(name).main(replaced)

    def _options(self, name: str, words: list[str]) -> list[str]:
        """Words without what needs a GPU, hours, or runs of before."""
        if not torch.cuda.is_available():
            words = [word for word in words if word != '--amp']
        if name == 'reproduce' and not {'--dry-run', '--report-only'} & {*words}:
            words = [*words, '--dry-run']
        if name in READ_RESULTS:
            words = [self._run_folder(word) for word in words]
        return words

    def _run_folder(self, word: str) -> str:
        label, equals, value = word.rpartition('=')
        if value.startswith('work_dirs/') and not Path(value).suffix:
            value = str(self.results().parent)
        return label + equals + value

    def _reader(self, words: list[str], later: Sequence[list[str]]) -> str | None:
        """First config of the later commands that reads a folder of the words."""
        folders = {
            str(Path(word).parent)
            for word in words
            if word.startswith('data/') and Path(word).suffix
        }
        for following in later:
            if folders & {*following}:
                return next((w for w in following if self._is_config(w)), None)
        return None

    def config(self, name: str) -> Path:
        """Shrunken version of a config; CONFIG is the one named last."""
        if '/' in name:
            self._named = name.removeprefix('configs/')
        return self._shrunken(self._named)

    def _shrunken(self, source: str) -> Path:
        if source not in self._configs:
            folder = self.folder / f'config{len(self._configs)}'
            folder.mkdir()
            self._configs[source] = shrink(source, folder)
        return self._configs[source]

    def checkpoint(self, config: Path) -> Path:
        """Checkpoint of the untrained model of a shrunken config."""
        path = config.with_suffix('.pth')
        if not path.exists():
            from mmdet.registry import MODELS

            init_default_scope('mmdet')
            torch.manual_seed(0)
            model = MODELS.build(Config.fromfile(str(config)).model)
            model.init_weights()
            torch.save(dict(state_dict=model.state_dict(), meta={}), path)
        return path

    def results(self) -> Path:
        """Detections of a test run, as `outfile_prefix` writes them."""
        config = self._shrunken(DEFAULT_CONFIG)
        number = len(self._results)
        prefix = self.folder / 'results' / f'{number}' / f'run{number}'
        argv = [str(config), str(self.checkpoint(config)), '--work-dir', 'tested']
        argv += ['--cfg-options', f'test_evaluator.outfile_prefix={prefix}']
        argv += ['model.test_cfg.rcnn.score_thr=0.0']
        assert load_tool('test').main(argv) == 0
        path = prefix.with_name(prefix.name + '.bbox.json')
        assert json.loads(path.read_text())
        self._results.append(path)
        return path

    def class_stats(self, config: Path) -> Path:
        """Statistics of the training data of a shrunken config."""
        path = config.with_name('class_stats.json')
        assert load_tool('class_stats').main([str(config), '--out', str(path)]) == 0
        return path

    def _is_config(self, word: str) -> bool:
        return word in ('CONFIG', 'FILE') or (
            word.startswith('configs/') and word.endswith('.py')
        )

    def _replaced(self, word: str, config: str | None, path: Path) -> str:
        """What is given in place of a word of the document."""
        if word == config:
            return str(path)
        if '{' in word and word.endswith('.pth'):
            # Of a table, whose plan says what is missing.
            return word
        if word.endswith('.pth') or word == 'CHECKPOINT':
            return str(self.checkpoint(path))
        name, equals, value = word.partition('=')
        if equals and not name.startswith('-'):
            return f'{name}={self._replaced(value, config, path)}'
        if word in ('RESULTS', 'A', 'B') or word.endswith('.bbox.json'):
            return str(self.results())
        if word == 'STATS':
            return str(self.class_stats(path))
        if word == 'ANNOTATION':
            return str(path.parent / 'train.json')
        if word.startswith('data/') and Path(word).suffix:
            # Files of real data are those of the shrunken config.
            return str(path.parent / Path(word).name)
        if word in ('DIR', 'WORK_DIR', 'data') or word.startswith('data/'):
            folder = self.folder / word.lower()
            folder.mkdir(parents=True, exist_ok=True)
            if word.startswith('data/'):
                for image in path.parent.glob('*.png'):
                    shutil.copy(image, folder)
            return str(folder)
        return word
