"""The cache of frozen features: whole or absent, keyed by content."""

import numpy as np
import pytest
import torch

from mmdet_imbalance.core import feature_cache
from mmdet_imbalance.core.feature_cache import FeatureCache, cache_key, write_cache


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
