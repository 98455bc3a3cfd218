"""Fixtures that several test folders share."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _default_scopes() -> dict:
    """The host's default scopes by name, the last is the current one."""
    registry = sys.modules.get('mmengine.registry')
    return {} if registry is None else registry.DefaultScope._instance_dict


@pytest.fixture(autouse=True)
def _no_shared_runs():
    """Forget the host's named loggers, message hubs and scopes after each test.

    The host names a run by the second it starts in: two runs of one second would share
    a logger, which writes to the captured output of the earlier test, closed by then.
    A scope that stays would decide which of two classes a name stands for in the next.
    """
    scopes = dict(_default_scopes())
    yield
    logging = sys.modules.get('mmengine.logging')
    if logging is not None:
        for kind in (logging.MMLogger, logging.MessageHub):
            kind._instance_dict.clear()
    _default_scopes().clear()
    _default_scopes().update(scopes)


@pytest.fixture(scope='session')
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder of real data that is no part of the project; skips where it is absent."""
    folder = Path(
        os.environ.get('MMDET_IMBALANCE_DATA', ROOT.parent / 'shared' / 'data')
    )
    if not folder.is_dir():
        pytest.skip(
            f'real data not found at {folder}; set MMDET_IMBALANCE_DATA to its folder'
        )
    return folder
