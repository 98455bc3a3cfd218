"""Batch sampler around any other that can begin in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.registry import DATA_SAMPLERS as HOST_DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler

from mmdet_imbalance.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ResumableBatches(BatchSampler):
    """Hands on the batches of another batch sampler; `skip_batches` leaves some out.

    Batches are lists of indices, so no image is loaded for those that are left out,
    and however the inner sampler groups its images (by aspect ratio, say), the others
    are the very ones that an uninterrupted epoch would still have shown.

    Args:
        sampler: gives indices; `set_epoch` reaches it as `self.sampler`.
        batch_size: images in a batch.
        drop_last: whether the last, shorter batch is left out.
        inner: config of the batch sampler, without these arguments; None: torch's.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        drop_last: bool = False,
        inner: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        if inner is None:
            self.inner = BatchSampler(sampler, batch_size, drop_last)
        else:
            if drop_last:
                raise ValueError('write `drop_last` in `inner`: it forms the batches')
            self.inner = HOST_DATA_SAMPLERS.build(
                inner, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        self._skipped = 0

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches; what was skipped once is not skipped again."""
        skipped, self._skipped = self._skipped, 0
        return islice(iter(self.inner), skipped, None)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.inner)

    def skip_batches(self, num_batches: int) -> None:
        """Leave out the first batches of the next epoch.

        Raises:
            ValueError: negative, or more than an epoch has.
        """
        if not 0 <= num_batches <= len(self):
            raise ValueError(
                f'`num_batches` must be in [0, {len(self)}], got {num_batches!r}'
            )
        self._skipped = num_batches
