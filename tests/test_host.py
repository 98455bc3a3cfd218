"""The check of the host, and checkpoints that load without unpickling foreign code."""

import importlib
import io
import os
import pickle
import types

import numpy as np
import pytest
import torch

from mmdet_imbalance import host


@pytest.fixture
def checkpoint() -> io.BytesIO:
    """A file with what a runner of the host writes beside the weights."""
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([3.0, 1.0], [1, 1])
    history.update(np.float64(2.0), 1)
    content = {
        'meta': {
            'seed': 7,
            'dataset_meta': ConfigDict(classes=('a', 'b'), palette=[(1, 2, 3)]),
        },
        'state_dict': {'weight': torch.arange(3)},
        'message_hub': {
            'log_scalars': {'train/loss': history},
            'runtime_info': {
                'best': np.float32(0.5),
                'flag': np.array([True, False]),
                'names': np.array(['r', 'c']),
                'when': np.array(['2026-01-01'], dtype='datetime64[D]'),
            },
        },
        'optimizer': {'param_groups': [{'lr': 0.1, 'betas': (0.9, 0.999)}]},
    }
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file


@pytest.fixture
def no_safe_globals():
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def test_checkpoint_is_refused_before(checkpoint, no_safe_globals):
    # If torch accepted it, `allow_resume` would have no reason to exist.
    with pytest.raises(pickle.UnpicklingError, match='Unsupported global'):
        torch.load(checkpoint, weights_only=True)


def test_checkpoint_loads_after(checkpoint, no_safe_globals):
    host.allow_resume()
    loaded = torch.load(checkpoint, weights_only=True)
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert history.statistics('mean', 3) == 2.0
    assert history.statistics('min') == 1.0
    assert history.statistics('current') == 2.0
    assert loaded['meta']['dataset_meta'].classes == ('a', 'b')
    info = loaded['message_hub']['runtime_info']
    assert info['best'] == np.float32(0.5)
    assert info['names'].tolist() == ['r', 'c']
    assert info['flag'].tolist() == [True, False]


@pytest.mark.parametrize('core', ['core', '_core'])
def test_arrays_of_either_numpy_load(core, no_safe_globals):
    # What numpy 1 and numpy 2 write differs in the name of one module only.
    host.allow_resume()
    own = host.numpy_core().removeprefix('numpy.')
    file = io.BytesIO()
    torch.save({'array': np.arange(3.0)}, file)
    content = file.getvalue()
    foreign = f'cnumpy.{core}.multiarray\n'.encode()
    assert f'cnumpy.{own}.multiarray\n'.encode() in content
    if core != own:
        from zipfile import ZipFile

        patched = io.BytesIO()
        with ZipFile(io.BytesIO(content)) as old, ZipFile(patched, 'w') as new:
            for name in old.namelist():
                part = old.read(name)
                new.writestr(
                    name, part.replace(f'cnumpy.{own}.multiarray\n'.encode(), foreign)
                )
        content = patched.getvalue()
    loaded = torch.load(io.BytesIO(content), weights_only=True)
    assert loaded['array'].tolist() == [0.0, 1.0, 2.0]


class _Lookup:
    """Pickles as a call of `getattr`, as an attack on the allow-list would."""

    def __init__(self, owner: object, name: str) -> None:
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


class _Command:
    def __reduce__(self):
        return os.system, ('true',)


def test_code_is_still_refused(no_safe_globals):
    from mmengine.logging import HistoryBuffer

    host.allow_resume()
    for attack in (
        _Command(),
        _Lookup(HistoryBuffer, '__init__'),
        _Lookup(np.ndarray, 'min'),
    ):
        file = io.BytesIO()
        torch.save(attack, file)
        file.seek(0)
        with pytest.raises((pickle.UnpicklingError, ValueError)):
            torch.load(file, weights_only=True)


@pytest.mark.parametrize('name', ['mmengine', 'mmcv', 'mmdet'])
def test_missing_host_says_what_to_install(name, monkeypatch):
    def import_module(wanted: str):
        if wanted == name:
            raise ModuleNotFoundError(f'No module named {wanted!r}')
        return importlib.import_module(wanted)

    monkeypatch.setattr(host, 'import_module', import_module)
    with pytest.raises(ImportError, match=rf"needs '{name}'.*mmdet-imbalance\[host\]"):
        host.check_host()


def test_broken_operators_say_what_to_install(monkeypatch):
    def import_module(wanted: str):
        if wanted == 'mmcv':
            raise OSError('undefined symbol')
        return importlib.import_module(wanted)

    monkeypatch.setattr(host, 'import_module', import_module)
    with pytest.raises(ImportError, match='undefined symbol'):
        host.check_host()


@pytest.mark.parametrize(
    ('versions', 'complaint'),
    [
        ({'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0'}, None),
        ({'mmengine': '0.10.12', 'mmcv': '2.3.6', 'mmdet': '3.5.1'}, None),
        ({'mmengine': '0.10.12', 'mmcv': '2.10.0rc1', 'mmdet': '3.5.1'}, None),
        ({'mmengine': '0.9.1', 'mmcv': '2.1.0', 'mmdet': '3.3.0'}, 'mmengine'),
        ({'mmengine': '0.10.7', 'mmcv': '1.7.1', 'mmdet': '3.3.0'}, 'mmcv'),
        ({'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '2.28.2'}, 'mmdet'),
        ({'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '4.0.0'}, 'mmdet'),
    ],
)
def test_versions_of_both_families_pass_and_others_do_not(
    versions, complaint, monkeypatch
):
    monkeypatch.setattr(
        host,
        'import_module',
        lambda name: types.SimpleNamespace(__version__=versions[name]),
    )
    if complaint is None:
        host.check_host()
    else:
        with pytest.raises(ImportError, match=f'version {versions[complaint]} is inst'):
            host.check_host()
