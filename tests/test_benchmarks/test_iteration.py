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


def test_ratios_are_taken_within_a_round():
    stock = bench_iteration.Contestant('stock', None, None, [1.0, 2.0, 4.0])
    # The clock halved its speed twice; the method takes a tenth longer all the time.
    other = bench_iteration.Contestant('other', None, None, [1.1, 2.2, 4.4])
    assert bench_iteration.ratio(other, stock) == pytest.approx((1.1, 1.1, 1.1))


@pytest.mark.slow
def test_it_runs_on_the_cpu(monkeypatch, capsys):
    argv = '--scale 64 64 --images 1 --rounds 1 --iterations 1 --only softmax'
    monkeypatch.setattr(sys, 'argv', ['bench_iteration.py', *argv.split()])
    bench_iteration.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith('stock faster-rcnn_r50_fpn')
    assert sum(line.startswith('concurrent softmax') for line in lines) == 2
    assert all(' ms ' in line for line in lines[1:])
