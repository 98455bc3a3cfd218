"""The index says what decoding would say, and names what cannot be read."""

import csv

import cv2
import pytest
from PIL import Image

from mmdet_imbalance.datasets import image_sizes as module
from mmdet_imbalance.datasets.open_images import OpenImagesMultiLabelDataset
from tests.helpers.open_images_files import line, write_files
from tests.helpers.tools import load_tool


def run(*arguments):
    return load_tool('image_sizes').main([str(a) for a in arguments])


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / 'img'
    folder.mkdir()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.new('RGB', (30 + orientation, 20))
        image.save(folder / f'turn{orientation}.jpg', exif=exif)
    Image.new('L', (7, 9)).save(folder / 'grey.png')
    (folder / 'notes.txt').write_text('no image')
    return folder


def read(path):
    with open(path, newline='') as file:
        return {
            row['ImageID']: (int(row['Width']), int(row['Height']))
            for row in csv.DictReader(file)
        }


def test_sizes_are_those_of_the_decoded_images(folder, tmp_path):
    assert run(folder, '--out', tmp_path / 'sizes.csv', '--workers', 1) == 0
    sizes = read(tmp_path / 'sizes.csv')
    assert len(sizes) == 9
    for name, (width, height) in sizes.items():
        (path,) = folder.glob(f'{name}.*')
        assert cv2.imread(str(path)).shape[:2] == (height, width)


def test_processes_keep_the_order(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'PATHS_AT_ONCE', 2)
    paths = sorted(folder.glob('*.jpg'))
    found = list(module.measure_images(paths, num_workers=2))
    assert found == [(str(p), module.image_size(p)) for p in paths]


def test_annotated_images_only_and_the_dataset_reads_the_index(folder, tmp_path):
    lines = [line('turn6', '/m/d'), line('turn1', '/m/c'), line('turn6', '/m/t', 0.3)]
    arguments = write_files(tmp_path, lines)
    out = tmp_path / 'sizes.csv'
    assert run(folder, '--out', out, '--ann-file', arguments['ann_file']) == 0
    assert read(out) == {'turn6': (20, 36), 'turn1': (31, 20)}
    data = OpenImagesMultiLabelDataset(**arguments, image_sizes_file=str(out))
    record = data.get_data_info(0)
    assert (record['width'], record['height']) == (20, 36)
    assert record['instances'][0]['bbox'] == pytest.approx([2, 7.2, 10, 21.6])


def test_bad_images_are_named_or_left_out(folder, tmp_path, capsys):
    (folder / 'broken.jpg').write_bytes(b'\xff\xd8\xff')
    out = tmp_path / 'sizes.csv'
    assert run(folder, '--out', out) == 2
    assert '1 of 10 images' in (error := capsys.readouterr().err)
    assert 'broken.jpg' in error
    assert not out.exists()
    assert run(folder, '--out', out, '--skip-bad') == 0
    assert len(read(out)) == 9
    ann_file = write_files(tmp_path, [line('gone', '/m/d')])['ann_file']
    assert run(folder, '--out', out, '--ann-file', ann_file) == 2
    assert 'gone.jpg' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('none', '--out', 'x.csv'), 'folder of images not found'),
        (('img', '--out', 'none/x.csv'), 'folder not found'),
        (('img', '--out', 'x.csv', '--workers', '0'), 'at least 1'),
        (('.', '--out', 'x.csv'), 'no image'),
    ],
)
def test_what_cannot_be_is_said(
    folder, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('row', ['x,0,5', 'x,-3,5', 'x,,5'])
def test_impossible_sizes_are_refused(tmp_path, row):
    arguments = write_files(tmp_path, [line('x', '/m/d')])
    (tmp_path / 'sizes.csv').write_text(f'ImageID,Width,Height\n{row}\n')
    with pytest.raises(ValueError, match=r'sizes\.csv, line 2: Width must be'):
        OpenImagesMultiLabelDataset(
            **arguments, image_sizes_file=str(tmp_path / 'sizes.csv')
        )
