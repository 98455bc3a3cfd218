"""The cache of frozen features: whole or absent, keyed by content."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdet_imbalance.core import feature_cache
from mmdet_imbalance.core.feature_cache import (
    FeatureCache,
    cache_key,
    ensure_cache,
    write_cache,
)


def make_rows(num_rows: int = 3) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [
        dict(
            path=f'{i // 2}.png',
            mirrored=bool(i % 2),
            ori_shape=(50 + i, 60),
            img_shape=(100, 120 + i),
            levels=[
                torch.randn(4, 6 + i, 8, generator=generator),
                torch.randn(4, 3, 4 + i, generator=generator),
            ],
            proposals=torch.rand(i, 5, generator=generator),
        )
        for i in range(num_rows)
    ]


def test_what_is_written_is_read(tmp_path):
    rows = make_rows()
    write_cache(tmp_path / 'key', iter(rows), len(rows))
    cache = FeatureCache(tmp_path / 'key')
    assert len(cache) == len(rows)
    for row in rows:
        image = (row['path'], row['mirrored'])
        for level, expected in zip(cache.features(*image), row['levels'], strict=True):
            torch.testing.assert_close(level, expected.half(), rtol=0, atol=0)
        torch.testing.assert_close(cache.proposals(*image), row['proposals'])
        assert cache.shapes(*image) == dict(
            ori_shape=row['ori_shape'], img_shape=row['img_shape']
        )
    with pytest.raises(KeyError, match=r'other\.png'):
        cache.features('other.png')


def test_interrupted_cache_is_absent(tmp_path):
    def rows():
        yield from make_rows(2)
        raise RuntimeError('killed')

    with pytest.raises(RuntimeError, match='killed'):
        write_cache(tmp_path / 'key', rows(), 3)
    assert list(tmp_path.iterdir()) == []


def test_second_writer_of_the_same_cache_is_harmless(tmp_path):
    for _ in range(2):
        write_cache(tmp_path / 'key', iter(make_rows()), 3)
    assert [path.name for path in tmp_path.iterdir()] == ['key']
    assert len(FeatureCache(tmp_path / 'key')) == 3


def start(target, *args) -> multiprocessing.Process:
    process = multiprocessing.get_context('fork').Process(target=target, args=args)
    process.start()
    return process


def write_slowly(folder: Path, log: Path, killed: bool = False) -> None:
    """Write a cache, a line of the log for each row; or die after the first row."""

    def rows():
        for row in make_rows():
            with log.open('a') as file:
                file.write(f'{os.getpid()}\n')
            yield row
            if killed:
                os._exit(9)
            time.sleep(0.05)

    ensure_cache(folder, rows, 3)
    assert len(FeatureCache(folder)) == 3


def test_processes_that_want_the_same_cache_make_it_once(tmp_path):
    folder, log = tmp_path / 'caches' / 'key', tmp_path / 'log'
    processes = [start(write_slowly, folder, log) for _ in range(3)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    writers = log.read_text().split()
    assert len(writers) == 3
    assert len(set(writers)) == 1
    assert [path.name for path in folder.parent.iterdir()] == ['key']


def test_cache_of_a_killed_process_is_made_by_who_waits_for_it(tmp_path):
    folder, log = tmp_path / 'caches' / 'key', tmp_path / 'log'
    killed = start(write_slowly, folder, log, True)
    killed.join(30)
    assert killed.exitcode == 9
    assert not folder.exists()
    write_slowly(folder, log)
    assert len(log.read_text().split()) == 1 + 3
    assert [path.name for path in folder.parent.iterdir()] == ['key']


def test_failed_writer_leaves_the_cache_to_the_next(tmp_path):
    def fail():
        raise RuntimeError('no disk')

    with pytest.raises(RuntimeError, match='no disk'):
        ensure_cache(tmp_path / 'key', fail, 3)
    assert ensure_cache(tmp_path / 'key', make_rows, 3)
    assert not ensure_cache(tmp_path / 'key', fail, 3)
    assert [path.name for path in tmp_path.iterdir()] == ['key']


def test_full_disk_is_noticed_after_one_row(tmp_path, monkeypatch):
    usage = feature_cache.shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(feature_cache.shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(OSError, match='--cache-dir'):
        write_cache(tmp_path / 'key', iter(make_rows()), 3)
    assert list(tmp_path.iterdir()) == []


def test_overflow_of_float16_is_an_error(tmp_path):
    rows = make_rows(1)
    rows[0]['levels'][0][0, 0, 0] = 1e6
    with pytest.raises(ValueError, match='float16'):
        write_cache(tmp_path / 'key', iter(rows), 1)


def test_key_depends_on_weights_and_configs_and_on_nothing_else():
    state = dict(a=torch.arange(4.0), b=torch.ones(2, dtype=torch.int64))
    key = cache_key(state, dict(x=1, y=2))
    assert key == cache_key(dict(reversed(state.items())), dict(y=2, x=1))
    changed = np.nextafter(np.float32(3), np.float32(4))
    other = dict(state, a=torch.tensor([0.0, 1.0, 2.0, changed]))
    keys = {
        key,
        cache_key(other, dict(x=1, y=2)),
        cache_key(state, dict(x=1, y=3)),
        cache_key(dict(state, a=state['a'].view(2, 2)), dict(x=1, y=2)),
    }
    assert len(keys) == 4
