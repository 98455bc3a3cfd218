"""Finding, reading and overriding the config of a tool."""

import pytest
from mmengine.config import Config

from mmdet_imbalance.cli import (
    ToolError,
    add_config_arguments,
    checked_file,
    load_config,
    override_data_root,
    tool_parser,
)


def load(*argv: str) -> Config:
    parser = tool_parser('Test.', 'python tools/train.py CONFIG')
    add_config_arguments(parser)
    return load_config(parser.parse_args([str(word) for word in argv]))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        "data_root = 'data/set/'\n"
        "model = dict(type='X', depth=18, pipeline=[dict(type='A'), dict(type='B')])\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root, '
        "ann_file='train.json', names=('data/set/a', 'data/settings')))\n"
        "val_evaluator = [dict(ann_file=data_root + 'val.json')]\n"
        "other = 'data/set2/x'\n"
    )
    return path


def test_options_override_nested_values(config):
    cfg = load(
        config,
        '--cfg-options',
        'model.depth=50',
        'model.pipeline.1.type=C',
        'work_dir=w',
    )
    assert cfg.model.depth == 50
    assert [part.type for part in cfg.model.pipeline] == ['A', 'C']
    assert cfg.work_dir == 'w'


def test_new_keys_of_other_names_are_legal(config):
    # A constructor has more arguments than a config writes.
    cfg = load(config, '--cfg-options', 'model.frozen_stages=1', 'randomness.seed=3')
    assert cfg.model.frozen_stages == 1
    assert cfg.randomness.seed == 3


@pytest.mark.parametrize('by_option', [True, False])
def test_data_root_moves_what_lies_in_it_and_nothing_else(config, tmp_path, by_option):
    new = tmp_path / 'elsewhere'
    new.mkdir()
    cfg = (
        load(config, '--cfg-options', f'data_root={new}')
        if by_option
        else load(config, '--data-root', new)
    )
    dataset = cfg.train_dataloader.dataset
    assert cfg.data_root == dataset.data_root == f'{new}/'
    assert cfg.val_evaluator[0].ann_file == f'{new}/val.json'
    assert tuple(dataset.names) == (f'{new}/a', 'data/settings')
    assert dataset.ann_file == 'train.json'
    assert cfg.other == 'data/set2/x'


def test_data_root_without_a_slash_is_the_same_folder(tmp_path):
    cfg = Config({'data_root': 'data', 'a': 'data/x', 'b': 'data', 'c': 'database'})
    override_data_root(cfg, str(tmp_path))
    assert (cfg.a, cfg.b, cfg.c) == (f'{tmp_path}/x', f'{tmp_path}/', 'database')


def test_runner_keys_and_own_variables_pass(config):
    text = (
        "train_pipelines = []\ntrain_pipeline = []\nmy_models = {'a': 1}\nmodle = 3\n"
    )
    config.write_text(config.read_text() + text)
    assert load(config).modle == 3  # a number is a variable of the author's


def test_misspelt_runner_key_is_refused(config):
    config.write_text(config.read_text() + '\nval_evaluater = dict(metric=1)\n')
    with pytest.raises(
        ToolError, match=r"'val_evaluater'; did you mean 'val_evaluator'"
    ):
        load(config)


def test_config_of_another_kind_is_refused(tmp_path):
    path = tmp_path / 'config.txt'
    path.write_text('x = 1')
    with pytest.raises(ToolError, match=r'must be a \.py, \.yml or \.json file'):
        load(path)


def test_config_inside_the_package_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load('configs/_base_/runtime/small.py')
    assert cfg.filename.endswith('configs/_base_/runtime/small.py')


def test_checked_file_names_what_is_missing(tmp_path):
    with pytest.raises(ToolError, match=r'checkpoint not found: .*x\.pth'):
        checked_file(str(tmp_path / 'x.pth'), 'checkpoint')
    assert checked_file('https://host/x.pth', 'checkpoint') == 'https://host/x.pth'
