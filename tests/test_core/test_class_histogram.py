"""Histograms show the numbers that they are given."""

import numpy as np
import pytest

from mmdet_imbalance.core.class_histogram import summary, text_histogram
from mmdet_imbalance.core.class_stats import ClassStats


def make(num_classes=5):
    counts = np.arange(num_classes) ** 2
    return ClassStats(
        class_names=[f'kind {k}' for k in range(num_classes)],
        img_count=counts,
        instance_count=counts * 3,
        num_images=max(10**4, num_classes**2),
    )


def test_rows_fall_and_bars_with_them():
    rows = text_histogram(make()).splitlines()[-5:]
    assert [row.split()[1] for row in rows] == ['4', '3', '2', '1', '0']
    assert rows[0].split()[2:5] == ['c', '16', '48']
    bars = [row.count('#') for row in rows]
    assert bars == sorted(bars, reverse=True)
    assert (bars[0], bars[-1]) == (40, 0)


def test_many_classes_show_head_and_tail():
    text = text_histogram(make(100), max_rows=10)
    assert '... 90 more classes' in text
    rows = text.splitlines()[-11:]
    assert rows[0].startswith('kind 99')
    assert rows[-1].startswith('kind 0')
    with pytest.raises(ValueError, match='max_rows'):
        text_histogram(make(), max_rows=1)


def test_summary_names_the_ends_and_the_absent():
    text = summary(make())
    assert 'imbalance factor 16' in text
    assert 'most: kind 4 48, kind 3 27, kind 2 12' in text
    assert 'fewest: kind 1 3, kind 0 0' in text
    assert '1 classes without images: kind 0' in text


def test_nothing_at_all():
    empty = ClassStats(class_names=[], img_count=[], instance_count=[], num_images=0)
    assert 'imbalance factor undefined' in text_histogram(empty)
