"""The demo data on disk."""

import json

import cv2

from mmdet_imbalance.datasets.glyphs import GlyphDataset
from tests.helpers.tools import load_tool

tool = load_tool('make_demo_data')
OPTIONS = '--num-images 4 --image-size 96 --annotate one --seed 2 --imbalance-factor 9'


def test_files_are_those_of_the_dataset(tmp_path, capsys):
    out = tmp_path / 'data'
    assert tool.main([*OPTIONS.split(), '--out', str(out)]) == 0
    assert str(out / 'annotations.json') in capsys.readouterr().out
    dataset = GlyphDataset(
        4, seed=2, image_size=96, annotate='one', imbalance_factor=9.0
    )
    content = json.loads((out / 'annotations.json').read_text())
    for image in content['images']:
        pixels = cv2.imread(str(out / 'images' / image['file_name']))
        assert (pixels == dataset.image(image['id'])).all()
    assert len(content['annotations']) == sum(
        len(dataset.get_data_info(idx)['instances']) for idx in range(4)
    )


def test_refuses_a_folder_with_content(tmp_path, capsys):
    (tmp_path / 'mine').touch()
    assert tool.main(['--out', str(tmp_path)]) == 2
    assert 'not an empty folder' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_bad_value_is_one_line(tmp_path, capsys):
    options = ['--out', str(tmp_path / 'new'), '--label-noise', '2']
    assert tool.main(options) == 2
    error = capsys.readouterr().err
    assert 'label_noise' in error
    assert error.count('\n') == 1
    assert not (tmp_path / 'new').exists()
