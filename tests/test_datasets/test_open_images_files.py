"""Files that cannot be are refused by line and value, or skipped and counted."""

import json
import multiprocessing
import os
import time

import numpy as np
import pytest

from mmdet_imbalance.datasets import open_images_store as store_module
from mmdet_imbalance.datasets.open_images import OpenImagesMultiLabelDataset
from tests.helpers.open_images_files import CLASSES, HEADER, TREE, line, write_files

GOOD = [line('x', '/m/d'), line('y', '/m/c')]


def load(folder, lines=GOOD, facts=None, **kwargs):
    return OpenImagesMultiLabelDataset(**write_files(folder, lines, facts), **kwargs)


def ids(data):
    return [data.get_data_info(i)['img_id'] for i in range(len(data))]


# --- forms of files -------------------------------------------------------------------


def rewrite(folder, change):
    arguments = write_files(folder, GOOD)
    path = folder / 'boxes.csv'
    path.write_bytes(change(path.read_text()))
    return arguments


@pytest.mark.parametrize(
    'change',
    [
        lambda text: b'\xef\xbb\xbf' + text.encode(),
        lambda text: text.replace('\n', '\r\n').encode(),
        lambda text: text.rstrip('\n').encode(),
        lambda text: text.replace('\n', '\n\n').encode(),
        lambda text: text.replace('x,xclick', '"x","xclick"').encode(),
    ],
    ids=['mark', 'crlf', 'no newline at the end', 'empty lines', 'quotes'],
)
def test_harmless_forms_are_read(tmp_path, change):
    data = OpenImagesMultiLabelDataset(**rewrite(tmp_path, change))
    assert ids(data) == ['x', 'y']
    assert data.get_cat_ids(0) == [1]
    instance = data.get_data_info(1)['instances'][0]
    assert instance['bbox'] == [0.1, 0.2, 0.5, 0.6]


def test_columns_are_found_by_name(tmp_path):
    # As in the Challenge's validation files: fewer columns, in another order.
    text = 'LabelName,ImageID,YMax,XMin,XMax,YMin,IsGroupOf,Extra\n'
    text += '/m/d,x,0.6,0.1,0.5,0.2,1,?\n'
    data = OpenImagesMultiLabelDataset(
        **rewrite(tmp_path, lambda _: text.encode()), test_mode=True
    )
    instance = data.get_data_info(0)['instances'][0]
    assert instance['bbox'] == [0.1, 0.2, 0.5, 0.6]
    assert instance['is_group_of'] is True
    assert instance['is_occluded'] is False


def test_newer_class_lists_have_a_header(tmp_path):
    arguments = write_files(tmp_path, GOOD)
    path = tmp_path / 'classes.csv'
    path.write_text('LabelName,DisplayName\n' + path.read_text())
    data = OpenImagesMultiLabelDataset(**arguments)
    assert data.metainfo['classes'] == tuple(CLASSES.values())


def test_classes_of_one_name_are_told_apart_and_numbers_are_read(tmp_path):
    """As in the Challenge's list, where two benches and two mice are classes."""
    arguments = write_files(tmp_path, GOOD)
    text = '/m/a,Animal,1\n/m/d,Bench,2\n/m/t,Toy,3\n/m/c,Bench,4\n'
    (tmp_path / 'classes.csv').write_text(text)
    data = OpenImagesMultiLabelDataset(**arguments)
    names = ('Animal', 'Bench (/m/d)', 'Toy', 'Bench (/m/c)')
    assert data.metainfo['classes'] == names
    assert [data.get_cat_ids(i) for i in (0, 1)] == [[1], [3]]
    with pytest.raises(ValueError, match=r"nearest to 'Bench' is 'Bench \(/m/"):
        OpenImagesMultiLabelDataset(**arguments, metainfo=dict(classes=['Bench']))


def test_file_without_rows_is_an_empty_dataset(tmp_path):
    data = load(tmp_path, [])
    assert len(data) == 0
    assert len(data.label_index()) == 0


# --- rows that cannot be --------------------------------------------------------------

BAD_ROWS = {
    'truncated line': ('z,xclick,/m/d,1,0.1', r'5 fields.*truncated'),
    'text for a number': (line('z', '/m/d', x1='abc'), r"XMin must be.*'abc'"),
    'unknown label': (line('z', '/m/zzz'), r"'/m/zzz' is not in the label file"),
    'empty label': (line('z', ''), "LabelName '' is not in the label file"),
    'not a number': (line('z', '/m/d', y2='nan'), 'not finite'),
    'infinite': (line('z', '/m/d', x2='inf'), 'not finite'),
    'missing coordinate': (line('z', '/m/d', x2=''), 'missing or not finite'),
    'reversed': (line('z', '/m/d', x1=0.9), 'reversed'),
    'nameless image': (line('', '/m/d'), 'empty ImageID'),
    'flag that is none': (line('z', '/m/d', group='yes'), "IsGroupOf must be.*'yes'"),
}


@pytest.mark.parametrize('name', BAD_ROWS)
@pytest.mark.parametrize('place', [0, 2])
def test_bad_rows_are_refused_by_line(tmp_path, name, place):
    row, message = BAD_ROWS[name]
    lines = [*GOOD[:place], row, *GOOD[place:]]
    with pytest.raises(ValueError, match=rf'boxes\.csv, line {place + 2}: .*{message}'):
        load(tmp_path, lines)


@pytest.mark.parametrize('name', BAD_ROWS)
def test_bad_rows_are_skipped_and_counted_on_request(tmp_path, name):
    if name == 'flag that is none':
        pytest.skip('a flag that cannot be read is unknown; the box stays')
    data = load(tmp_path, [GOOD[0], BAD_ROWS[name][0], GOOD[1]], bad_rows='skip')
    report = data.report
    assert report['rows'] == 3
    assert report['unreadable'] + report['impossible'] == 1
    assert report['objects'] == 2


@pytest.mark.parametrize(
    ('header', 'missing'),
    [
        (HEADER.replace('XMin,', ''), 'XMin'),
        (HEADER.replace('LabelName', 'Label'), 'LabelName'),
        ('x,xclick,/m/d,1,0.1,0.2,0.3,0.4,0,0,0,0,0', 'ImageID'),
    ],
)
def test_missing_columns_are_named(tmp_path, header, missing):
    arguments = rewrite(tmp_path, lambda text: text.replace(HEADER, header).encode())
    with pytest.raises(ValueError, match=rf"line 1: column.*'{missing}'.*the header"):
        OpenImagesMultiLabelDataset(**arguments)


def test_empty_and_absent_files_are_named(tmp_path):
    arguments = rewrite(tmp_path, lambda _: b'')
    with pytest.raises(ValueError, match=r'boxes\.csv is empty'):
        OpenImagesMultiLabelDataset(**arguments)
    for key in ('ann_file', 'label_file', 'hierarchy_file', 'image_level_ann_file'):
        wrong = {**write_files(tmp_path, GOOD), key: str(tmp_path / 'none.csv')}
        with pytest.raises(FileNotFoundError, match=r'none\.csv'):
            OpenImagesMultiLabelDataset(**wrong)


@pytest.mark.parametrize(
    ('fact', 'message'),
    [
        ('x,v,/m/zz,1', 'line 3: .*/m/zz'),
        ('x,v,/m/d,2', 'line 3: Confidence'),
        ('x,v,/m/d,', 'line 3: Confidence'),
        ('x,v,/m/d', 'line 3: 3 fields'),
    ],
)
def test_bad_image_level_rows(tmp_path, fact, message):
    with pytest.raises(ValueError, match=rf'facts\.csv, {message}'):
        load(tmp_path / '1', GOOD, ['x,v,/m/c,0', fact])
    data = load(tmp_path / '2', GOOD, ['x,v,/m/c,0', fact], bad_rows='skip')
    assert data.report['image_level_skipped'] == 1
    assert data.get_data_info(0)['verified_neg'] == [3]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('/m/a,Animal,3\n', 'line 1: expected'),
        ('/m/a,Animal\n/m/a,Dog\n', 'line 2: .* twice'),
        ('/m/a,Animal,1\n/m/d,Dog,3\n', 'line 2: .*`id,name,2`'),
        ('/m/a\n', 'line 1: expected'),
        ('', 'names no classes'),
    ],
)
def test_bad_class_lists(tmp_path, text, message):
    arguments = write_files(tmp_path, GOOD)
    (tmp_path / 'classes.csv').write_text(text)
    with pytest.raises(ValueError, match=rf'classes\.csv.*{message}'):
        OpenImagesMultiLabelDataset(**arguments)


def test_hierarchy_may_name_more_but_not_less(tmp_path):
    arguments = write_files(tmp_path, GOOD)
    more = {**TREE, 'Subcategory': [*TREE['Subcategory'], {'LabelName': '/m/new'}]}
    (tmp_path / 'tree.json').write_text(json.dumps(more))
    assert len(OpenImagesMultiLabelDataset(**arguments)) == 2
    less = {**TREE, 'Subcategory': TREE['Subcategory'][:1]}
    (tmp_path / 'tree.json').write_text(json.dumps(less))
    with pytest.raises(ValueError, match=r"tree\.json: '/m/t'.*'/m/c'"):
        OpenImagesMultiLabelDataset(**arguments)


# --- the store ------------------------------------------------------------------------


def stores(folder):
    return sorted((folder / 'cache').glob('*.arrow'))


@pytest.fixture
def builds(monkeypatch):
    """Counts how often columns are written."""
    calls = []
    write = store_module.write_store

    def counting(*args):
        calls.append(args[0])
        write(*args)

    monkeypatch.setattr(store_module, 'write_store', counting)
    return calls


def test_second_load_reads_the_store_without_the_csv(tmp_path, builds, monkeypatch):
    first = load(tmp_path)
    monkeypatch.setattr('mmdet_imbalance.datasets.open_images_build.read_columns', None)
    arguments = dict(
        ann_file=first.ann_file,
        label_file=first.label_file,
        hierarchy_file=first.hierarchy_file,
        cache_dir=tmp_path / 'cache',
    )
    again = OpenImagesMultiLabelDataset(**arguments)
    assert again.get_data_info(1) == first.get_data_info(1)
    assert len(builds) == 1
    assert not again._store.labels.flags.owndata  # mapped, not read


@pytest.mark.parametrize('keep', [0, 10, 200, -1])
def test_truncated_store_is_made_again(tmp_path, builds, keep):
    expected = load(tmp_path).get_data_info(1)
    (path,) = stores(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert load(tmp_path).get_data_info(1) == expected
    assert len(builds) == 2
    assert path.read_bytes() == content


def test_store_of_another_version_is_made_again(tmp_path, builds, monkeypatch):
    load(tmp_path)
    (path,) = stores(tmp_path)
    monkeypatch.setattr(store_module, 'STORE_VERSION', 99)
    newer = load(tmp_path)
    assert len(builds) == 2
    assert newer._store.path != path
    path.write_bytes(newer._store.path.read_bytes())  # another key under this name
    monkeypatch.setattr(store_module, 'STORE_VERSION', 1)
    assert ids(load(tmp_path)) == ['x', 'y']
    assert len(builds) == 3


def test_a_folder_that_cannot_be_written_is_named_and_a_store_in_it_is_read(
    tmp_path, monkeypatch
):
    arguments = write_files(tmp_path, GOOD)
    arguments['cache_dir'] = str(tmp_path / 'file' / 'cache')
    (tmp_path / 'file').write_text('in the way of a folder')
    with pytest.raises(OSError, match=r'file/cache .*`cache_dir`'):
        OpenImagesMultiLabelDataset(**arguments)
    first = load(tmp_path)

    def refuse(*args):
        raise PermissionError('read-only file system')

    for name in ('write_text_atomically', 'write_store', '_locked'):
        monkeypatch.setattr(store_module, name, refuse)
    for memo in (tmp_path / 'cache').glob('*.seen.json'):
        memo.unlink()
    assert load(tmp_path).get_data_info(1) == first.get_data_info(1)


def test_changed_annotation_of_the_same_size_and_time_is_seen(tmp_path, builds):
    load(tmp_path)
    path = tmp_path / 'boxes.csv'
    times = path.stat()
    time.sleep(0.02)
    write_files(tmp_path, [line('x', '/m/d'), line('z', '/m/c')])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    data = load(tmp_path, [line('x', '/m/d'), line('z', '/m/c')])
    assert ids(data) == ['x', 'z']
    assert len(builds) == 2


def test_same_content_elsewhere_is_the_same_store(tmp_path, builds):
    first = load(tmp_path / '1')
    arguments = write_files(tmp_path / '2', GOOD)
    arguments['cache_dir'] = str(tmp_path / '1' / 'cache')
    assert OpenImagesMultiLabelDataset(**arguments)._store.path == first._store.path
    assert len(builds) == 1


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(train_group_of='drop'),
        dict(same_object_iou=0.5),
        dict(test_mode=True),
        dict(bad_rows='skip'),
        dict(metainfo=dict(classes=('Dog', 'Car'))),
        dict(hierarchy_file=None),
    ],
)
def test_every_option_that_changes_columns_has_its_own_store(tmp_path, builds, kwargs):
    arguments = write_files(tmp_path, GOOD)
    OpenImagesMultiLabelDataset(**arguments)
    OpenImagesMultiLabelDataset(**{**arguments, **kwargs})
    assert len(builds) == 2


def _load_in_process(folder, barrier, queue):
    barrier.wait()
    data = OpenImagesMultiLabelDataset(
        ann_file=f'{folder}/boxes.csv',
        label_file=f'{folder}/classes.csv',
        hierarchy_file=f'{folder}/tree.json',
        cache_dir=f'{folder}/cache',
    )
    queue.put([len(data), int(data.label_index().labels.sum())])


def test_processes_that_build_at_once_agree(tmp_path):
    rng = np.random.default_rng(0)
    lines = [line(f'im{k}', '/m/' + 'adtc'[k % 4]) for k in rng.integers(0, 99, 5000)]
    write_files(tmp_path, lines)
    context = multiprocessing.get_context('fork')
    barrier, queue = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=_load_in_process, args=(tmp_path, barrier, queue))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert found[0] == found[1] == found[2]
    assert len(stores(tmp_path)) == 1
    assert not list((tmp_path / 'cache').glob('.*'))
    expected = load(tmp_path / 'alone', lines)
    assert found[0] == [len(expected), int(expected.label_index().labels.sum())]
