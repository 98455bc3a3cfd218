"""Loading step that leaves broken image files out of a training, and counts them."""

import logging
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from mmdet_imbalance.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadReadableImage(LoadImageFromFile):
    """The host's loading step, for training: an image that cannot be read is skipped.

    The dataset shows another one in its place, drawn at random. Each file is a warning
    with its name and the count so far, once; too many end the training, because then
    it is the disk or the path that is broken. Not for validation: a missing image there
    would change the result.

    Args:
        max_unreadable: broken files at which this process gives up. Processes that
            load data count each for itself.
        **kwargs: those of the host's `LoadImageFromFile`, without `ignore_empty`.
    """

    def __init__(self, max_unreadable: int = 10, **kwargs: Any) -> None:
        if kwargs.pop('ignore_empty', False):
            raise ValueError(
                '`ignore_empty` would skip images without counting them: leave it out'
            )
        if max_unreadable < 0:
            raise ValueError(
                f'`max_unreadable` must not be negative, got {max_unreadable}'
            )
        super().__init__(**kwargs)
        self.max_unreadable = max_unreadable
        self.unreadable: set[str] = set()

    def transform(self, results: dict) -> dict | None:
        """Load the image; None where that fails.

        Raises:
            RuntimeError: one file more than `max_unreadable` cannot be read.
        """
        try:
            return super().transform(results)
        # Decoders raise what they like, and the host asserts.
        except Exception as error:
            path = str(results.get('img_path'))
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            if path in self.unreadable:
                return None
            self.unreadable.add(path)
            num = len(self.unreadable)
            if num > self.max_unreadable:
                raise RuntimeError(
                    f'{num} images cannot be read, the last one is {path} ({reason}); '
                    f'`max_unreadable` is {self.max_unreadable}'
                ) from error
            print_log(
                f'skipped an image that cannot be read ({num} so far, at most '
                f'{self.max_unreadable}): {path} ({reason})',
                logger='current',
                level=logging.WARNING,
            )
            return None
