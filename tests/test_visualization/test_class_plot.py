"""The picture of a histogram is a picture."""

import pytest
from PIL import Image

from mmdet_imbalance.visualization.class_plot import plot_histogram
from tests.test_core.test_class_histogram import make


@pytest.mark.parametrize('num_classes', [1, 5, 200])
def test_picture_is_written(tmp_path, num_classes):
    path = tmp_path / 'histogram.png'
    plot_histogram(make(num_classes), path)
    with Image.open(path) as image:
        assert image.size[0] > 300
        assert len(image.convert('RGB').getcolors(1 << 24)) > 5
    assert list(tmp_path.iterdir()) == [path]
