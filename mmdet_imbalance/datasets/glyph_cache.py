"""Disk cache of the demo data: optional, safe to delete, never trusted.

A file is written whole or not at all and ends with a checksum; one that does not fit
its checksum counts as absent and is written anew. An interrupted or parallel run
therefore leaves nothing that a later run could stumble over.
"""

import hashlib
import json
import zlib
from pathlib import Path

import cv2
import numpy as np

from mmdet_imbalance.core.atomic_write import atomic_path
from mmdet_imbalance.datasets.glyph_vocabulary import LEAVES

#: To be raised whenever the same arguments would give other pixels or boxes.
RENDERER_VERSION = 1


def content_key(**arguments) -> str:
    """Name of the folder for these arguments, vocabulary and versions of renderers."""
    import matplotlib
    import PIL

    versions = (cv2.__version__, np.__version__, matplotlib.__version__)
    arguments['versions'] = [RENDERER_VERSION, PIL.__version__, *versions]
    arguments['vocabulary'] = [leaf.shape for leaf in LEAVES]
    text = json.dumps(arguments, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class GlyphCache:
    """Files of one set of arguments.

    Args:
        folder: holds images and object lists; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def image_path(self, index: int) -> Path:
        """File of an image: an ordinary PNG, with the checksum behind its end."""
        return self.folder / 'images' / f'{index:07d}.png'

    def read_image(self, index: int, size: int) -> np.ndarray | None:
        """An image, shape (size, size, 3), uint8, BGR; None if absent or damaged."""
        payload = _read_sealed(self.image_path(index))
        if payload is None:
            return None
        image = cv2.imdecode(np.frombuffer(payload, dtype=np.uint8), cv2.IMREAD_COLOR)
        return None if image is None or image.shape != (size, size, 3) else image

    def write_image(self, index: int, image: np.ndarray) -> None:
        """Store an image without loss."""
        _, payload = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        _write_sealed(self.image_path(index), payload.tobytes())

    def read_objects(self, num_images: int) -> list | None:
        """Drawn label and box of every object, by image; None if absent or damaged."""
        payload = _read_sealed(self._objects_path(num_images))
        return None if payload is None else json.loads(payload)

    def write_objects(self, objects: list) -> None:
        """Store the object lists of the first `len(objects)` images."""
        payload = json.dumps(objects, separators=(',', ':')).encode()
        _write_sealed(self._objects_path(len(objects)), payload)

    def _objects_path(self, num_images: int) -> Path:
        return self.folder / f'objects-{num_images}.json'


def _write_sealed(path: Path, payload: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(payload + zlib.crc32(payload).to_bytes(4, 'big'))


def _read_sealed(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    payload, seal = content[:-4], content[-4:]
    # An empty file has no seal; crc32(b'') is 0 and would need four zero bytes.
    return payload if seal == zlib.crc32(payload).to_bytes(4, 'big') else None
