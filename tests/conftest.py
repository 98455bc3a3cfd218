"""Fixtures that several test folders share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
