"""What the package needs of its host, checked once with a clear message.

The import names mmengine, mmcv and mmdet come from either of two distributions:
the maintained one (onedl-*) and the last upstream releases.  Neither can be a
hard dependency without excluding the other, so the check is made at import.
"""

from importlib import import_module

HOST_MODULES = ('mmengine', 'mmcv', 'mmdet')
INSTALL_HINT = (
    'Install the maintained host with `pip install "mmdet-imbalance[host]"` '
    '(needs torch first; see "Installation" in the README), or the upstream '
    'releases mmengine 0.10.7, mmcv 2.1.0 and mmdet 3.3.0.'
)


def check_host() -> None:
    """Raise ImportError, naming what is missing and how to get it."""
    for name in HOST_MODULES:
        try:
            import_module(name)
        except ImportError as error:
            raise ImportError(
                f'mmdet_imbalance needs {name!r}, which cannot be imported '
                f'({error}). {INSTALL_HINT}'
            ) from error
