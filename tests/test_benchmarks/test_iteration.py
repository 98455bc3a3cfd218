"""The comparison of training iterations: what it compares exists, and it runs."""

import sys

import pytest

from benchmarks import bench_iteration
from mmdet_imbalance.registry import MODELS

CHANGES = [
    (detector, name)
    for detector, changes in bench_iteration.GROUPS.items()
    for name in changes
]


@pytest.mark.parametrize(('detector', 'name'), CHANGES)
def test_every_method_changes_the_stock_config(detector, name):
    stock = bench_iteration.stock_config(detector).model
    cfg = bench_iteration.variant(detector, bench_iteration.GROUPS[detector][name])
    assert cfg.model != stock
    head = cfg.model.get('roi_head', cfg.model)['bbox_head']
    assert head.num_classes == bench_iteration.NUM_CLASSES
    kind = head.loss_cls.type.removeprefix('mmdet_imbalance.')
    assert kind in MODELS or name == 'PISA'


def test_a_ratio_is_that_of_two_turns_after_one_another():
    # The clock halved its speed twice; the method takes a tenth longer all the time.
    other = bench_iteration.Contestant(
        'other', None, None, seconds=[1.1, 2.2, 4.4], stock_seconds=[1.0, 2.0, 4.0]
    )
    assert bench_iteration.ratio(other) == pytest.approx((1.1, 1.1, 1.1))


@pytest.mark.slow
def test_it_runs_on_the_cpu(monkeypatch, capsys):
    argv = '--scale 64 64 --images 1 --rounds 1 --iterations 1 --only softmax'
    argv += ' --profile'
    monkeypatch.setattr(sys, 'argv', ['bench_iteration.py', *argv.split()])
    bench_iteration.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith('stock faster-rcnn_r50_fpn')
    for start in ('concurrent softmax', '  concurrent softmax'):
        # A turn by the clock, and its operators alone, in both detectors.
        assert sum(line.startswith(start) for line in lines) == 2
    assert all(
        ' ms ' in line or 'ms an iteration' in line or 'alone' in line
        for line in lines[1:]
    )
