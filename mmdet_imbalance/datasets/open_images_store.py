"""Columns of a dataset in one memory-mapped Arrow file, found by content.

A file is made once and then mapped by every rank and every worker: they share the pages
of the operating system's file cache. Its name is a hash of the bytes of all annotation
files and of everything that turns rows into objects, so another content is another
file. A file that is truncated or of another version is made again.

To know the content without reading gigabytes at every start, the hash of a source file
is remembered with its size, inode, and times of modification and of status change; the
last cannot be set back by a program.

Shapes: as in `open_images_build`.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmdet_imbalance.core.atomic_write import atomic_path, write_text_atomically
from mmdet_imbalance.datasets.open_images_build import BuildOptions, Columns

#: Part of every key; a change of the layout or of a rule of building raises it.
STORE_VERSION = 1
READ_BYTES = 1 << 22
ARRAYS = (
    'image_ptr',
    'boxes',
    'labels',
    'flags',
    'fact_ptr',
    'fact_labels',
    'fact_conf',
    'width',
    'height',
)


class OpenImagesStore:
    """Read-only columns of a store file; see `Columns` for their meaning.

    Copies are the same object, and another process maps the same file: neither costs
    memory.

    Args:
        path: file that `write_store` made.

    Raises:
        ValueError: not such a file, or a truncated one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with pa.memory_map(str(path)) as source:
                batch = pa.ipc.open_file(source).get_batch(0)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f'{path} is no complete store: {error}') from error
        header = json.loads((batch.schema.metadata or {}).get(b'store', b'{}'))
        if header.get('version') != STORE_VERSION:
            raise ValueError(f'{path} is of version {header.get("version")!r}')
        self.key: str = header['key']
        self.report: dict[str, int] = header['report']
        self.sets = [tuple(labels) for labels in header['sets']]
        self.num_classes: int = header['num_classes']
        self.image_id = batch.column('image_id').values
        for name in ARRAYS:
            values = batch.column(name).values.to_numpy(zero_copy_only=True)
            setattr(self, name, values)
        self.boxes = self.boxes.reshape(-1, 4)
        if len(self.image_ptr) != len(self.image_id) + 1 or self.image_ptr[-1] != len(
            self.labels
        ):
            raise ValueError(f'{path}: columns of different lengths')

    def __len__(self) -> int:
        return len(self.image_id)

    def __deepcopy__(self, memo) -> 'OpenImagesStore':
        return self

    def __reduce__(self):
        return OpenImagesStore, (str(self.path),)


def write_store(path: Path, columns: Columns, key: str, num_classes: int) -> None:
    """Write columns, whole or not at all."""
    header = {
        'version': STORE_VERSION,
        'key': key,
        'num_classes': num_classes,
        'report': columns.report,
        'sets': columns.sets,
    }
    # One row of lists: columns of different lengths, each one piece of memory.
    fields = {'image_id': columns.image_id}
    for name in ARRAYS:
        fields[name] = pa.array(np.ascontiguousarray(getattr(columns, name)).ravel())
    lists = [
        pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)
        for values in fields.values()
    ]
    batch = pa.record_batch(lists, names=list(fields))
    batch = batch.replace_schema_metadata({'store': json.dumps(header)})
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), 'wb') as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def open_or_build(
    folder: Path, key: str, num_classes: int, build: Callable[[], Columns]
) -> OpenImagesStore:
    """Map the store of a key; build it first where there is no good one.

    Of several processes one builds, the others wait for it.

    Args:
        folder: of the stores; made if absent.
        key: hash of all that the columns depend on.
        num_classes: number C of classes.
        build: makes the columns.
    """
    path = folder / f'{key}.arrow'
    store = _open(path, key)
    if store is not None:
        return store
    with _locked(folder / f'{key}.lock'):
        store = _open(path, key)  # another process may have been faster
        if store is None:
            write_store(path, build(), key, num_classes)
            store = OpenImagesStore(path)
    return store


def store_key(sources: list[Path | None], options: BuildOptions, folder: Path) -> str:
    """Hash of the contents of the files and of the options."""
    digest = hashlib.blake2b(digest_size=16)
    words = [str(STORE_VERSION)]
    words += ['-' if s is None else content_hash(Path(s), folder) for s in sources]
    words += [f'{mid}={label}' for mid, label in options.labels.items()]
    words += [
        str(options.num_classes),
        options.train_group_of if not options.test_mode else '',
        str(options.same_object_iou) if not options.test_mode else '',
        str(options.test_mode),
        str(options.skip_bad),
    ]
    for word in words:
        digest.update(word.encode() + b'\0')
    if not options.test_mode:
        digest.update(np.packbits(options.ancestor_matrix))
    return digest.hexdigest()


def content_hash(path: Path, folder: Path) -> str:
    """Hash of the bytes of a file, remembered in `folder` while it is untouched."""
    if not path.is_file():
        raise FileNotFoundError(f'annotation file {str(path)!r} does not exist')
    path = path.resolve()
    name = hashlib.blake2b(str(path).encode(), digest_size=16).hexdigest()
    memo = folder / f'{name}.seen.json'
    stamp = _stamp(path)
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(memo.read_text())
        if known['stamp'] == stamp:
            return str(known['hash'])
    found = hashlib.blake2b(digest_size=16)
    with open(path, 'rb') as file:
        while block := file.read(READ_BYTES):
            found.update(block)
    # A file that changed while it was read must not be known by its first stamp.
    if _stamp(path) == stamp:
        # Where it cannot be remembered the file is read again at the next start.
        with suppress(OSError):
            write_text_atomically(
                memo, json.dumps({'stamp': stamp, 'hash': found.hexdigest()})
            )
    return found.hexdigest()


def _stamp(path: Path) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def _open(path: Path, key: str) -> OpenImagesStore | None:
    if not path.is_file():
        return None
    try:
        store = OpenImagesStore(path)
    except (ValueError, KeyError, TypeError):
        return None
    return store if store.key == key else None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the system frees it when the process ends, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, 'w')  # noqa: SIM115
    except OSError as error:
        raise OSError(
            f'cannot keep the columns of Open Images in {path.parent} ({error}): give '
            'the dataset a folder that can be written as `cache_dir`, or set '
            'MMDET_IMBALANCE_CACHE'
        ) from error
    with lock as file:
        with suppress(OSError):  # a file system without locks: build twice, harmless
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
