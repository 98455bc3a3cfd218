"""What the package needs of its host, checked once with a clear message.

The import names mmengine, mmcv and mmdet come from either of two distributions:
the maintained one (onedl-*) and the last upstream releases.  Neither can be a
hard dependency without excluding the other, so the check is made at import.
"""

import re
from importlib import import_module

#: Import name: (oldest version that works, first one that is unknown).  Upstream's last
#: releases are the lower ends, the maintained distribution's major versions the upper.
HOST_VERSIONS = {
    'mmengine': ('0.10.7', '1'),
    'mmcv': ('2.1.0', '3'),
    'mmdet': ('3.3.0', '4'),
}
INSTALL_HINT = (
    'Install the maintained host with `pip install "mmdet-imbalance[host]"` '
    '(needs torch first; see "Installation" in the README), or the upstream '
    'releases mmengine 0.10.7, mmcv 2.1.0 and mmdet 3.3.0.'
)


def check_host() -> None:
    """Raise ImportError, naming what is missing or too old, and how to get it."""
    for name, (oldest, unknown) in HOST_VERSIONS.items():
        try:
            module = import_module(name)
        except Exception as error:
            # mmdet asserts on the version of mmcv; a broken build of the operators
            # raises what the dynamic linker says.
            raise ImportError(
                f'mmdet_imbalance needs {name!r}, which cannot be imported '
                f'({error}). {INSTALL_HINT}'
            ) from error
        version = getattr(module, '__version__', '0')
        if not _numbers(oldest) <= _numbers(version) < _numbers(unknown):
            raise ImportError(
                f'mmdet_imbalance works with {name} from {oldest} to below {unknown}, '
                f'but version {version} is installed. {INSTALL_HINT}'
            )


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: '2.3.6rc1' is (2, 3, 6)."""
    return tuple(int(number) for number in re.findall(r'\d+', version)[:3])


def allow_resume() -> None:
    """Let `torch.load(weights_only=True)` read the host's checkpoints.

    Since torch 2.6 that is the default, and upstream mmengine asks for nothing else: it
    cannot read back the histories of its own logs.  This names the few things that a
    checkpoint of the host holds, none of which runs foreign code when it is loaded, in
    place of `weights_only=False`, which unpickles anything.  Harmless on the maintained
    host, which falls back to exactly that with a warning.
    """
    import codecs

    import numpy
    import torch
    from mmengine.config import ConfigDict
    from mmengine.logging.history_buffer import HistoryBuffer

    def history_method(owner: type, name: str) -> object:
        """Stand-in for `getattr`, which a pickle could turn against us."""
        if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
            raise ValueError(f'a checkpoint must not look up {name!r} of {owner!r}')
        return getattr(owner, name)

    # Log histories are arrays and scalars of numpy, metainfo may be a config dict.
    # The functions that restore arrays changed their module in numpy 2: a file from
    # either side of the change must load.
    multiarray = import_module(numpy_core() + '.multiarray')
    restorers = [
        (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
        for name in ('_reconstruct', 'scalar')
        for core in ('core', '_core')
    ]
    dtypes = {type(numpy.dtype(code)) for code in numpy.typecodes['All'] if code != 'O'}
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (history_method, 'builtins.getattr'),
            ConfigDict,
            codecs.encode,
            numpy.ndarray,
            numpy.dtype,
            *dtypes,
            *restorers,
        ]
    )


def numpy_core() -> str:
    """Name of numpy's core module, which numpy 2 renamed."""
    import numpy

    return 'numpy._core' if hasattr(numpy, '_core') else 'numpy.core'
