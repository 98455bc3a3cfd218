"""tools/train.py and tools/test.py: runs that go well, and errors of one line."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdet_imbalance.cli.runs import load_checkpoint
from tests.helpers.tiny_run import write_config, write_data
from tests.helpers.tools import TOOLS, load_tool


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('tiny') / 'data')


@pytest.fixture
def tiny(data, tmp_path, monkeypatch) -> Path:
    """Config on the tiny data; the working directory is a fresh folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMDET_IMBALANCE_TRACEBACK', raising=False)
    return write_config(tmp_path, data)


def train(*argv: str | Path) -> int:
    return load_tool('train').main([str(arg) for arg in argv])


def error_line(capsys) -> str:
    """The only error line on stderr, without its prefix; no traceback beside it."""
    stderr = capsys.readouterr().err
    assert 'Traceback' not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, stderr
    return lines[0].removeprefix('error: ')


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(checkpoint)['state_dict']


def test_resumed_run_equals_uninterrupted_run(tiny, tmp_path):
    # The seed is drawn by the first run and not named on resuming.
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert train(tiny, '--work-dir', parts) == 0
    seed = load_checkpoint(parts / 'epoch_1.pth')['meta']['seed']
    two = ('--cfg-options', 'train_cfg.max_epochs=2')
    assert train(tiny, '--work-dir', parts, '--resume', *two) == 0
    assert train(tiny, '--work-dir', whole, '--seed', str(seed), *two) == 0
    resumed, expected = weights(parts / 'epoch_2.pth'), weights(whole / 'epoch_2.pth')
    first = weights(parts / 'epoch_1.pth')
    assert any(not torch.equal(first[key], expected[key]) for key in expected)
    for key, value in expected.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-5, atol=1e-6)


def test_checkpoint_is_evaluated(tiny, tmp_path):
    assert train(tiny, '--work-dir', tmp_path / 'run') == 0
    out = tmp_path / 'predictions.pkl'
    argv = [tiny, tmp_path / 'run' / 'epoch_1.pth', '--out', out, '--work-dir', 'eval']
    assert load_tool('test').main([str(arg) for arg in argv]) == 0
    assert out.stat().st_size > 0


def test_data_root_moves_datasets_and_metrics(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, 'somewhere/else')
    argv = (config, '--work-dir', tmp_path / 'run')
    assert train(*argv, '--data-root', data) == 0
    assert train(*argv, '--cfg-options', f'data_root={data}') == 0


def test_config_without_data_root_refuses_another_one(tiny, tmp_path, capsys):
    tiny.write_text(tiny.read_text() + "\ndata_root = ''\n")
    assert train(tiny, '--data-root', tmp_path) == 2
    assert 'no top-level `data_root`' in error_line(capsys)


OPTION = '--cfg-options'


@pytest.mark.parametrize(
    ('argv', 'expected'),
    [
        # misspelt keys of the command line
        ([OPTION, 'modle.backbone.depth=50'], "'modle'; did you mean 'model'?"),
        ([OPTION, 'model.backbone.dept=50'], "'dept'; did you mean 'depth'?"),
        ([OPTION, 'model.backbone.depth.x=50'], 'it has no keys'),
        ([OPTION, 'train_pipeline.9.type=Resize'], "'9' is no index"),
        ([OPTION, 'foo'], 'KEY=VALUE'),
        # types and constructor arguments
        ([OPTION, 'model.type=RetinaNett'], "did you mean 'RetinaNet'?"),
        ([OPTION, 'model.backbone.zoo=5'], "ResNet has no argument 'zoo'"),
        ([OPTION, 'optim_wrapper.optimizer.type=SDG'], "did you mean 'SGD'?"),
        # files
        ([OPTION, 'train_dataloader.dataset.ann_file=no.json'], 'file not found: /'),
        ([OPTION, 'train_dataloader.dataset.data_prefix.img=no/'], 'file not found: /'),
        (
            [
                *(OPTION, 'train_dataloader.num_workers=1'),
                'train_dataloader.dataset.data_prefix.img=no/',
            ],
            'file not found: /',
        ),
        ([OPTION, 'load_from=no.pth'], 'file not found: no.pth'),
        (['--resume', 'no.pth'], 'checkpoint not found: no.pth'),
        (['--resume', 'tiny.py'], 'tiny.py is no checkpoint'),
        (['--data-root', 'no'], 'data folder not found: no'),
        # class counts
        (
            [OPTION, 'model.bbox_head.num_classes=4'],
            '`model.bbox_head.num_classes` is 4, but the train dataset has 3 classes',
        ),
        (
            [OPTION, 'train_dataloader.dataset.metainfo.classes=("square","disc")'],
            'num_classes` is 3, but the train dataset has 2 classes',
        ),
        (
            [
                OPTION,
                'val_dataloader.dataset.metainfo.classes=("disc","square","stripe")',
            ],
            "class 0 is 'square' in the train dataset and 'disc' in the val dataset",
        ),
        (
            [OPTION, 'train_dataloader.dataset.metainfo.classes=("a","b","c")'],
            'a dataset has no images',
        ),
        # the machine
        (['--launcher', 'pytorch'], 'tools/dist_train.sh'),
        (['--launcher', 'slurm'], 'tools/slurm_train.sh'),
        (['--seed', '-2'], '--seed must not be negative, got -2'),
        ([OPTION, 'auto_scale_lr=None', '--auto-scale-lr'], 'base_batch_size'),
    ],
)
def test_bad_input_is_one_line(argv, expected, tiny, capsys):
    assert train(tiny, '--work-dir', 'run', *argv) == 2
    assert expected in error_line(capsys)
    assert not list(Path('run').glob('*.pth'))


@pytest.mark.parametrize(
    'argv', [['--amp'], ['--device', 'cuda'], [OPTION, 'device=cuda']]
)
def test_missing_gpu_is_one_line(argv, tiny, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert train(tiny, '--work-dir', 'run', *argv) == 2
    assert 'visible' in error_line(capsys)


@pytest.mark.parametrize(
    ('extra', 'expected'),
    [
        ('train_dataloder = dict(batch_size=4)', "did you mean 'train_dataloader'?"),
        ('foo = (', 'cannot be read'),
        ('import no_such_module', 'No module named'),
        ('train_cfg = dict(max_epoch=3)', "did you mean 'max_epochs'?"),
        (
            "custom_hooks = [dict(type='mmdet_imbalance.NoSuchThing')]",
            "unknown type 'mmdet_imbalance.NoSuchThing'",
        ),
        ("val_evaluator['metric'] = 'bxo'", 'but got bxo'),
        (
            "model['backbone']['init_cfg'] = dict("
            "type='Pretrained', checkpoint='http://localhost:1/w.pth')",
            'weights cannot be downloaded',
        ),
    ],
)
def test_bad_config_is_one_line(extra, expected, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, data, extra=f'\n{extra}\n')
    assert train(config, '--work-dir', 'run') == 2
    assert expected in error_line(capsys)


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        ('{"images": [', 'broken.json is no valid JSON: Expecting value: line 1'),
        ('[1, 2]', 'not supported'),
        ('{"images": [], "annotations": []}', "the field 'categories' is missing"),
        (
            '{"images": [{"id": 1, "file_name": "0.png", "width": 64, "height": 64}],'
            '"categories": [{"id": 1, "name": "disc"}],'
            '"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "area": 4}]}',
            "broken.json: the field 'bbox' is missing",
        ),
    ],
)
def test_broken_annotation_is_one_line(content, expected, data, tiny, capsys):
    (data / 'broken.json').write_text(content)
    ann_file = 'train_dataloader.dataset.ann_file=broken.json'
    assert train(tiny, '--work-dir', 'run', OPTION, ann_file) == 2
    assert expected in error_line(capsys)


@pytest.mark.parametrize('base', ['./nope.py', 'mmdet::retinanet/nope.py'])
def test_missing_base_is_one_line(base, tmp_path, capsys):
    config = tmp_path / 'config.py'
    config.write_text(f'_base_ = {base!r}\n')
    assert train(config) == 2
    assert 'nope.py' in error_line(capsys)


def test_similar_config_is_proposed(tiny, capsys):
    assert train('tinny.py') == 2
    assert 'config not found: tinny.py' in (line := error_line(capsys))
    assert 'did you mean tiny.py?' in line


def test_traceback_on_request(tiny):
    with pytest.raises(KeyError, match='RetinaNett'):
        train(tiny, '--traceback', '--cfg-options', 'model.type=RetinaNett')


def test_traceback_variable(tiny, monkeypatch):
    monkeypatch.setenv('MMDET_IMBALANCE_TRACEBACK', '1')
    with pytest.raises(KeyError, match='RetinaNett'):
        train(tiny, '--cfg-options', 'model.type=RetinaNett')


def test_error_after_the_first_step_keeps_its_traceback(tiny, tmp_path, capsys):
    tiny.write_text(tiny.read_text().replace("'img_shape', ", ''))
    assert train(tiny, '--work-dir', tmp_path / 'run') == 2
    stderr = capsys.readouterr().err
    assert 'Traceback' in stderr
    assert stderr.splitlines()[-1].startswith('error: KeyError: img_shape')


def test_port_in_use_is_one_line(tiny):
    with socket.socket() as taken:
        taken.bind(('', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            ['bash', str(TOOLS / 'dist_train.sh'), str(tiny), '2'],
            env={'PATH': '/usr/bin:/bin', 'PORT': port, 'PYTHON': sys.executable},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f'error: port {port} cannot be used')
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_two_processes_train_on_cpu(tiny, tmp_path):
    done = subprocess.run(
        ['bash', str(TOOLS / 'dist_train.sh'), str(tiny), '2', '--work-dir', 'run'],
        env={
            'PATH': '/usr/bin:/bin',
            'PYTHON': sys.executable,
            'CUDA_VISIBLE_DEVICES': '',
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # 4 images, 2 processes, batches of 2: one step an epoch.
    checkpoint = load_checkpoint(tmp_path / 'run' / 'epoch_1.pth')
    assert checkpoint['meta']['iter'] == 1


@pytest.mark.parametrize(
    ('script', 'arguments'),
    [('dist_train', 1), ('dist_test', 2), ('slurm_train', 3), ('slurm_test', 3)],
)
def test_scripts_ask_for_their_arguments(script, arguments):
    done = subprocess.run(
        ['bash', str(TOOLS / f'{script}.sh'), *['x'] * arguments],
        env={'PATH': '/usr/bin:/bin'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith('error: usage:')
