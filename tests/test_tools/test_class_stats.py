"""The tool counts what the config trains on, and says in one line what it cannot do."""

from PIL import Image

from mmdet_imbalance.core.class_stats import ClassStats
from tests.helpers.tiny_run import CLASSES, write_config, write_data
from tests.helpers.tools import load_tool


def run(*arguments):
    return load_tool('class_stats').main([str(a) for a in arguments])


def test_file_histogram_and_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('MMDET_IMBALANCE_CACHE', str(tmp_path / 'cache'))
    config = write_config(tmp_path, write_data(tmp_path / 'data'))
    out, plot = tmp_path / 'stats.json', tmp_path / 'stats.png'
    assert run(config, '--out', out, '--plot', plot) == 0
    stats = ClassStats.load(out)
    assert stats.class_names == CLASSES
    assert stats.img_count.tolist() == [4, 4, 4]
    with Image.open(plot) as image:
        assert image.format == 'PNG'
    text = capsys.readouterr().out
    assert '4 images, 12 labels, 3 classes' in text
    assert str(out) in text
    assert run(config, '--freq-thresholds', 0, 4, '--no-cache') == 0
    assert 'common       3 classes' in capsys.readouterr().out


def test_what_cannot_be_is_said_in_one_line(tmp_path, capsys):
    config = write_config(tmp_path, tmp_path / 'nothing')
    for arguments, message in (
        ((tmp_path / 'no.py',), 'config not found'),
        ((config, '--out', tmp_path / 'none' / 'stats.json'), 'folder not found'),
        ((config,), 'file not found'),
        ((config, '--cfg-options', 'train_dataloader=None'), 'train_dataloader'),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1
