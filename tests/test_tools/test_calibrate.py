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
    argv = ['--methods', 'norcal', 'tau_normalization', 'fractal']
    argv += ['--strengths', '0.5', '--splits', '2']
    argv += ['--table', str(table), '--out', str(out)]
    assert calibrate(run, tmp_path, *argv) == 0
    printed = capsys.readouterr().out
    sweep, held_out = table.read_text().split('\n\n')
    names = ['norcal', 'tau_normalization', 'fractal']
    methods = [row.split('|')[1].strip() for row in sweep.splitlines()[2:]]
    assert methods == ['none', *names]
    rows = held_out.splitlines()[2:]
    assert [row.split('|')[1].strip() for row in rows] == [*names, 'best of all']
    assert all('+-' in row for row in rows)
    assert 'coco/AP' in printed
    assert 'gains on the other half, 2 splits' in printed
    if 'nothing to write' in printed:
        assert not out.exists()
    else:
        hook = Config.fromfile(out).custom_hooks[-1]
        assert hook.type == 'mmdet_imbalance.CalibrationHook'
        assert hook.strength == 0.5


def test_one_pass_gives_what_a_run_for_each_trial_gives(run, tmp_path, monkeypatch):
    from mmdet_imbalance.engine.calibration_sweep import HeadReplay

    argv = ['--methods', 'logit_adjustment', '--strengths', '0.5', '1', '--splits', '1']
    tables = []
    for fits in (HeadReplay.fits, lambda model: False):
        monkeypatch.setattr(HeadReplay, 'fits', staticmethod(fits))
        table = tmp_path / f'{len(tables)}.md'
        assert calibrate(run, tmp_path, *argv, '--table', str(table)) == 0
        tables.append(table.read_text())
    assert tables[0] == tables[1]
    assert tables[0].count('logit_adjustment') == 3


def test_bad_input_is_named(run, tmp_path, capsys):
    argv = ['--methods', 'norcal', '--strengths', '0.5', '--metric', 'coco/APx']
    assert calibrate(run, tmp_path, *argv) == 2
    assert "no figure 'coco/APx'; there are" in capsys.readouterr().err
    assert calibrate(run, tmp_path, '--splits', '-1') == 2
    assert '--splits must not be negative' in capsys.readouterr().err
    assert calibrate(run, tmp_path, '--out', 'best.json') == 2
    assert '--out must end in .py' in capsys.readouterr().err
