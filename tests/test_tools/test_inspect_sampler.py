"""The tool says what a config's data sampler will show."""

import json

import pytest
from PIL import Image

from tests.helpers.tiny_run import write_config, write_data
from tests.helpers.tools import load_tool

SOFT_BALANCE = """
train_dataloader['sampler'] = dict(
    _delete_=True,
    type='mmdet_imbalance.SoftBalanceSampler',
    schedule=[(0, 0.0), (2, 1.0)],
)
"""


def run(*arguments):
    return load_tool('inspect_sampler').main([str(a) for a in arguments])


@pytest.fixture
def data(tmp_path):
    """Eight images; two keep their disc, one its stripe, all their square."""
    folder = write_data(tmp_path / 'data', num_images=8)
    content = json.loads((folder / 'train.json').read_text())
    content['annotations'] = [
        box
        for box in content['annotations']
        if box['image_id'] <= {1: 8, 2: 2, 3: 1}[box['category_id']]
    ]
    (folder / 'train.json').write_text(json.dumps(content))
    return folder


def rows_of(text):
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}


def test_table_and_picture_show_each_phase(tmp_path, data, capsys):
    config = write_config(tmp_path, data, SOFT_BALANCE)
    plot = tmp_path / 'epochs.png'
    assert run(config, '--epochs', 5, '--plot', plot) == 0
    rows = rows_of(capsys.readouterr().out)
    # Head, middle and tail have one class each; all of the 8 draws show a square.
    assert rows['0-1'] == ['8', '8.0', '2.0', '1.0']
    # A third of the draws each: image 1 shows all, image 2 square and disc.
    # P(image 1) = 1/24 + 1/6 + 1/3, P(image 2) = 1/24 + 1/6.
    both = 8 * (1 / 24 + 1 / 6)
    stripe = both + 8 / 3
    assert rows['2-4'] == ['8', '8.0', f'{both + stripe:.1f}', f'{stripe:.1f}']
    assert rows['square'][:3] == ['8', '8.0', '8.0']
    assert rows['stripe'][:3] == ['1', '1.0', '1.0']
    with Image.open(plot) as image:
        assert image.format == 'PNG'


def test_samplers_of_the_host_are_counted(tmp_path, data, capsys):
    config = write_config(tmp_path, data)
    assert run(config) == 0
    out = capsys.readouterr().out
    assert 'counted in one drawn epoch' in out
    assert rows_of(out)['0'] == ['8', '8.0', '2.0', '1.0']


def test_what_cannot_be_is_said_in_one_line(tmp_path, data, capsys):
    config = write_config(tmp_path, data, SOFT_BALANCE)
    for arguments, message in (
        ((tmp_path / 'no.py',), 'config not found'),
        ((config, '--epochs', 0), '--epochs'),
        ((config, '--plot', tmp_path / 'none' / 'a.png'), 'folder not found'),
        (
            (config, '--cfg-options', 'train_dataloader.sampler.schedule=0.7'),
            'schedule',
        ),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1
