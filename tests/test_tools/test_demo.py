"""The demo from end to end, and what it refuses."""

import json

import pytest
from mmengine.config import Config

from tests.helpers.tools import load_tool

demo = load_tool('demo')


@pytest.mark.slow
def test_trains_compares_and_draws(tmp_path, capsys, monkeypatch, project_root):
    monkeypatch.chdir(tmp_path)
    small = '--seeds 1 --epochs 1 --num-images 24 --num-val-images 4 --pictures 2'
    assert demo.main([*small.split(), '--device', 'cpu']) == 0
    said = capsys.readouterr().out
    assert 'ConcurrentSoftmaxLoss' in said
    out = tmp_path / 'work_dirs' / 'demo'
    text = (out / 'comparison.txt').read_text()
    assert text in said
    assert text.splitlines()[0].split()[-1] == 'minutes'
    assert len(list(out.glob('detections-*.png'))) == 2
    for name in ('ap-by-frequency', 'ap-tree-stock', 'ap-tree-changed-lines'):
        assert (out / f'{name}.png').stat().st_size > 1000
    for name in ('stock', 'changed-lines'):
        scalars = list((out / f'{name}-seed0').glob('*/vis_data/scalars.json'))
        rows = [json.loads(line) for line in scalars[0].read_text().splitlines()]
        assert max(row['step'] for row in rows) == 3
    # Both saw the same pictures and kept nothing of an older run.
    stock = json.loads((out / 'stock-seed0' / 'results.gt.json').read_text())
    changed = json.loads((out / 'changed-lines-seed0' / 'results.gt.json').read_text())
    assert stock == changed


def test_variants_differ_in_loss_and_sampler_only():
    first, second = (
        Config.fromfile(str(demo.find_config(path))).to_dict()
        for path in demo.CONFIGS.values()
    )
    head = second['model']['roi_head']['bbox_head']
    assert head['loss_cls']['type'] == 'mmdet_imbalance.ConcurrentSoftmaxLoss'
    sampler = second['train_dataloader']['sampler']
    assert sampler['type'] == 'mmdet_imbalance.SoftBalanceSampler'
    head['loss_cls'] = first['model']['roi_head']['bbox_head']['loss_cls']
    second['train_dataloader']['sampler'] = first['train_dataloader']['sampler']
    # The sampler's own hook: it continues the stream when a run is resumed.
    hook = second['custom_hooks'].pop()
    assert hook == {'type': 'mmdet_imbalance.DataSamplerHook'}
    assert first == second


def test_changed_lines_are_few():
    lines = demo.changed_lines().splitlines()
    assert len(lines) <= 2 + 25
    assert any('SoftBalanceSampler' in line for line in lines)


def test_plan_pairs_the_variants_of_a_seed(tmp_path):
    (tmp_path / 'stock-seed4').mkdir()
    (tmp_path / 'stock-seed4' / 'old').touch()
    args = demo.parse_args(
        ['--seeds', '2', '--first-seed', '4', '--epochs', '3', '--num-images', '20']
    )
    runs = demo.plan(args, tmp_path)
    assert [(run.name, run.seed) for run in runs] == [
        ('stock', 4),
        ('changed lines', 4),
        ('stock', 5),
        ('changed lines', 5),
    ]
    # 20 images in batches of 8 are 3 steps an epoch.
    assert all(run.max_iters == 9 for run in runs)
    assert not (tmp_path / 'stock-seed4').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('--seeds 0', '--seeds'),
        ('--num-images 0', '--num-images'),
        ('--jobs -1', '--jobs'),
        ('--pictures -1', '--pictures'),
        ('--first-seed -1', '--first-seed'),
    ],
)
def test_refuses_bad_numbers(options, message, capsys):
    assert demo.main(options.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1
