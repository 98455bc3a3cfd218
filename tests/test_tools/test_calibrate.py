"""tools/calibrate.py on a tiny run."""

import pytest
from mmengine.config import Config

from tests.helpers.tiny_run import write_config, write_data
from tests.helpers.tools import load_tool

#: The host's metric gives no figure at all for an untrained detector.
METRIC = """
val_evaluator = dict(_delete_=True, type='mmdet_imbalance.ImbalanceCocoMetric',
                     ann_file=data_root + 'train.json')
model['test_cfg'] = dict(score_thr=0.0)
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Config and checkpoint of one epoch."""
    folder = tmp_path_factory.mktemp('tiny')
    config = write_config(folder, write_data(folder / 'data'))
    config.write_text(config.read_text() + METRIC)
    work = folder / 'run'
    argv = [str(config), '--work-dir', str(work), '--device', 'cpu']
    assert load_tool('train').main(argv) == 0
    return config, work / 'epoch_1.pth'


def calibrate(run, tmp_path, *argv):
    config, checkpoint = run
    fixed = [str(config), str(checkpoint), '--work-dir', str(tmp_path / 'work')]
    return load_tool('calibrate').main([*fixed, '--device', 'cpu', *argv])


def test_sweep_prints_a_table_and_the_config_line(run, tmp_path, capsys):
    out, table = tmp_path / 'best.py', tmp_path / 'table.md'
    argv = ['--methods', 'norcal', 'tau_normalization', '--strengths', '0.5']
    argv += ['--table', str(table), '--out', str(out)]
    assert calibrate(run, tmp_path, *argv) == 0
    printed = capsys.readouterr().out
    rows = table.read_text().splitlines()[2:]
    methods = [row.split('|')[1].strip() for row in rows]
    assert methods == ['none', 'norcal', 'tau_normalization']
    assert 'coco/AP' in printed
    if 'nothing to write' in printed:
        assert not out.exists()
    else:
        hook = Config.fromfile(out).custom_hooks[-1]
        assert hook.type == 'mmdet_imbalance.CalibrationHook'
        assert hook.strength == 0.5


def test_bad_input_is_named(run, tmp_path, capsys):
    argv = ['--methods', 'norcal', '--strengths', '0.5', '--metric', 'coco/APx']
    assert calibrate(run, tmp_path, *argv) == 2
    assert "no figure 'coco/APx'; there are" in capsys.readouterr().err
    assert calibrate(run, tmp_path, '--out', 'best.json') == 2
    assert '--out must end in .py' in capsys.readouterr().err
