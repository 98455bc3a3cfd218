"""Features and proposals of a frozen detector on disk, made once for many heads.

What a head is re-trained on when everything before it stays as it is (Kang et al.,
"Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
arXiv 1910.09217).

Shapes: R rows (an image, as it is or mirrored), L feature levels, P proposals of a row.
Deviations: features are rounded to float16.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows: two processes may do the same work, none spoils it.
    fcntl = None

_LOGGER = logging.getLogger(__name__)
FEATURES, INDEX = 'features.f16', 'index.npz'
#: Room to leave on the disk, bytes.
SPARE = 1 << 28


def cache_key(state: dict[str, Tensor], *parts: Any) -> str:
    """Name of a cache: weights by content, everything else by its JSON text.

    Args:
        state: weights of everything before the head.
        *parts: configs of the frozen modules, the pipeline, the list of images.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:20]


class FeatureCache:
    """Read-only rows of a cache folder; features stay on disk until asked for.

    Args:
        folder: what `write_cache` made.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        with np.load(folder / INDEX, allow_pickle=False) as index:
            self._arrays = {name: index[name] for name in index.files}
        self._features = np.memmap(folder / FEATURES, dtype=np.float16, mode='r')
        self._rows = {
            (str(path), bool(mirrored)): row
            for row, (path, mirrored) in enumerate(
                zip(self._arrays['paths'], self._arrays['mirrored'], strict=True)
            )
        }

    def __len__(self) -> int:
        """Number of rows R."""
        return len(self._rows)

    def row(self, path: str, mirrored: bool = False) -> int:
        """Row of an image.

        Raises:
            KeyError: the cache was made from other images.
        """
        try:
            return self._rows[str(path), bool(mirrored)]
        except KeyError:
            raise KeyError(
                f'no cached features of {path} (mirrored: {mirrored}): the pipeline or '
                'the dataset is not the one that the cache was made of'
            ) from None

    def shapes(self, path: str, mirrored: bool = False) -> dict[str, tuple[int, int]]:
        """`ori_shape` and `img_shape` (height, width) of an image."""
        row = self.row(path, mirrored)
        return {
            name: tuple(self._arrays[name][row].tolist())
            for name in ('ori_shape', 'img_shape')
        }

    def features(self, path: str, mirrored: bool = False) -> list[Tensor]:
        """Feature levels of an image, each of shape (channels, height, width)."""
        row = self.row(path, mirrored)
        levels, start = [], int(self._arrays['starts'][row])
        for shape in self._arrays['level_shapes'][row]:
            end = start + int(shape.prod())
            values = np.array(self._features[start:end]).reshape(shape)
            levels.append(torch.from_numpy(values))
            start = end
        return levels

    def proposals(self, path: str, mirrored: bool = False) -> Tensor:
        """Boxes and scores of an image's proposals, shape (P, 5)."""
        row = self.row(path, mirrored)
        ptr = self._arrays['proposal_ptr']
        return torch.from_numpy(self._arrays['proposals'][ptr[row] : ptr[row + 1]])


def ensure_cache(
    folder: Path, rows: Callable[[], Iterable[dict]], num_rows: int
) -> bool:
    """Write a cache unless it is there; others who want the same one wait for it.

    Args:
        folder: of the cache.
        rows: called by the one process that writes; see `write_cache`.
        num_rows: see `write_cache`.

    Returns:
        Whether this process wrote it.
    """
    if folder.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder) as lock:
        if folder.is_dir():
            return False
        if lock is not None:
            # Whoever wrote here before was killed: nobody else has the lock.
            for left in folder.parent.glob(f'.{folder.name}.*/'):
                shutil.rmtree(left, ignore_errors=True)
        write_cache(folder, rows(), num_rows)
        if lock is not None:
            # Not after a failure: who waits would hold another file than who comes.
            lock.unlink(missing_ok=True)
    return True


@contextmanager
def _lock(folder: Path) -> Iterator[Path | None]:
    """Lock a cache until the block, or the process, ends; None: there are no locks."""
    path = folder.parent / f'.{folder.name}.lock'
    with open(path, 'a', encoding='utf-8') as file:
        yield path if _locked(file, folder) else None


def _locked(file: TextIO, folder: Path) -> bool:
    if fcntl is None:
        return False
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOGGER.warning('another process makes %s: waiting for it', folder)
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # A file system without locks.
        return False
    return True


def write_cache(folder: Path, rows: Iterable[dict], num_rows: int) -> None:
    """Write a cache, whole or not at all.

    Args:
        folder: to appear; its name is the key.
        rows: dicts with `path`, `mirrored`, `ori_shape`, `img_shape`, `levels` (list of
            tensors (channels, height, width)) and `proposals` (P, 5).
        num_rows: how many come, for the estimate of the room they need.

    Raises:
        OSError: too little room on the disk, said after the first row.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
    try:
        _write(temporary, rows, num_rows)
        # mkdtemp makes folders that only their owner reads; others share caches.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        try:
            os.rename(temporary, folder)
        except OSError:
            # Another process was quicker, and wrote the same: the key is the content.
            if not (folder / INDEX).is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, rows: Iterable[dict], num_rows: int) -> None:
    meta: dict[str, list] = {
        name: [] for name in ('path', 'mirrored', 'ori_shape', 'img_shape')
    }
    level_shapes, starts, proposals, position = [], [], [], 0
    with open(folder / FEATURES, 'wb') as file:
        for row in rows:
            levels = [level.to(torch.float16).numpy() for level in row['levels']]
            if not starts:
                _check_room(folder, num_rows * sum(level.nbytes for level in levels))
            starts.append(position)
            level_shapes.append([level.shape for level in levels])
            for level in levels:
                if not np.isfinite(level).all():
                    raise ValueError(
                        f'features of {row["path"]} do not fit into float16: they '
                        'exceed 65504 or are not finite'
                    )
                file.write(level.tobytes())
                position += level.size
            proposals.append(row['proposals'].float().numpy())
            for name, values in meta.items():
                values.append(row[name])
    np.savez(
        folder / INDEX,
        paths=np.array(meta.pop('path')),
        level_shapes=np.array(level_shapes, dtype=np.int64),
        starts=np.array(starts, dtype=np.int64),
        proposals=np.concatenate(proposals),
        proposal_ptr=np.cumsum([0, *map(len, proposals)]),
        **{name: np.array(values) for name, values in meta.items()},
    )


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise OSError(
            f'the features of all images take about {needed / 1e9:.1f} GB, and '
            f'{folder.parent} has {free / 1e9:.1f} GB: name a bigger disk with '
            '--cache-dir, leave out mirrored images with --no-flip, or train on fewer'
        )


def image_files(paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """Path, size and time of each image, by which a changed image is noticed."""
    found = []
    for path in paths:
        status = os.stat(path)
        found.append((path, status.st_size, status.st_mtime_ns))
    return found
