"""File backend of the host whose files appear whole or not at all.

The host opens a checkpoint under its final name and then writes: a kill or a full disk
in between leaves half a file where the last good one was.
"""

import os
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

#: Name for `backend_args=dict(backend=...)`, in configs too.
ATOMIC_BACKEND = 'mmdet_imbalance.atomic'
PARTIAL_SUFFIX = '.partial'


class AtomicLocalBackend(LocalBackend):
    """Local disk; `put` writes beside the file, flushes to the disk and renames.

    A rename replaces the old file in one step, so a reader sees the old content or the
    new one.  What a killed process leaves is a hidden `.NAME.partial`.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to `filepath`, whole or not at all.

        Raises:
            OSError: the disk is full or does not answer; it names `filepath`, which
                is as it was.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_path(path)
        try:
            with partial.open('wb') as file:
                file.write(obj)
                file.flush()
                # A rename can reach the disk before the data do.
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text to `filepath`, whole or not at all."""
        self.put(obj.encode(encoding), filepath)


def partial_path(path: Path) -> Path:
    """Where `path` is written before it is complete."""
    return path.with_name(f'.{path.name}{PARTIAL_SUFFIX}')


def remove_partial_files(folder: str | Path) -> None:
    """Delete what killed processes left in a folder."""
    for path in Path(folder).glob(f'.*{PARTIAL_SUFFIX}'):
        with suppress(OSError):
            path.unlink()


# `force`: a second import under another name must not fail.
register_backend(ATOMIC_BACKEND, AtomicLocalBackend, force=True)
