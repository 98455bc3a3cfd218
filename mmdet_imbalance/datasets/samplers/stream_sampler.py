"""Base of the data samplers: one index stream, shared by ranks, resumable anywhere.

The stream consists of rounds (epochs); round k is a pure function of the labels of
the dataset, the seed and k, so nothing has to be remembered to continue it.  Rank r of
W takes entries r, r + W, r + 2W, ...

Shapes: I images, L entries a round, W ranks.
"""

from collections.abc import Iterator, Sequence
from numbers import Integral

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from torch.utils.data import Sampler

from mmdet_imbalance.core.index_streams import stream_generator
from mmdet_imbalance.core.resampling import (
    ImagesByClass,
    class_thirds,
    without_ignored,
)
from mmdet_imbalance.datasets.label_index import class_names, label_index
from mmdet_imbalance.datasets.samplers.epoch_text import EpochTable, text_table

# Indices become Python integers in pieces of this size: 60 MB less for 1.7 M images.
CHUNK = 1 << 14
#: Most classes in the table that is printed at the start.
MAX_PRINTED = 12


class StreamSampler(Sampler):
    """Draws image indices round by round; subclasses give `_draw_round`.

    Args:
        dataset: a detection dataset of the host or a wrapper of some.
        seed: the same on every rank; None agrees on a random one.
        by_epoch: whether the sampler's schedule counts epochs or iterations.
        infinite: endless stream for `IterBasedTrainLoop`, or one round for each
            `set_epoch` for `EpochBasedTrainLoop`; None: endless unless `by_epoch`.
        batch_size: images of a rank in an iteration; only schedules by iteration use
            it.  None: `DataSamplerHook` fills it in from the data loader; outside a
            training an iteration is one image of each rank.
        use_ignored: whether boxes that the loss ignores (group-of, crowd) make their
            class present on an image.
        verbose: print once what the epochs will show, by class.
    """

    def __init__(
        self,
        dataset,
        seed: int | None = None,
        by_epoch: bool = True,
        infinite: bool | None = None,
        batch_size: int | None = None,
        use_ignored: bool = False,
        verbose: bool = True,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.seed = sync_random_seed() if seed is None else seed
        if not _is_count(self.seed):
            raise ValueError(f'`seed` must be an integer of at least 0, got {seed!r}')
        self.by_epoch = by_epoch
        self.infinite = not by_epoch if infinite is None else infinite
        self.batch_size = None
        self._is_summary_due = False
        if batch_size is not None:
            self.set_batch_size(batch_size)
        self.epoch = 0
        self._skipped = 0
        index = label_index(dataset)
        if index.num_images != len(dataset):
            raise ValueError(
                f'the label index has {index.num_images} images, but the dataset has '
                f'{len(dataset)}'
            )
        if index.num_images == 0:
            raise ValueError('the dataset is empty: there is no image to draw')
        image_ptr, labels = index.image_ptr, index.labels
        if not use_ignored:
            image_ptr, labels = without_ignored(image_ptr, labels, index.ignored)
        names = class_names(dataset)
        num_classes = len(names) if names else int(index.labels.max(initial=-1)) + 1
        self.class_names = names or tuple(map(str, range(num_classes)))
        self.by_class = ImagesByClass.from_labels(image_ptr, labels, num_classes)
        self.num_unlabelled = int((np.diff(image_ptr) == 0).sum())
        self._prepare(image_ptr, labels)
        # What a schedule by iteration will show is known with the batch size.
        self._is_summary_due = verbose
        if not self._needs_batch_size or self.batch_size is not None:
            self._print_summary()

    # --- what a subclass gives ----------------------------------------------------
    def _prepare(self, image_ptr: np.ndarray, labels: np.ndarray) -> None:
        """Derive once what all rounds need; image i shows labels[ptr[i]:ptr[i + 1]]."""

    def _draw_round(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Indices of a round, shape (L,)."""
        raise NotImplementedError

    def expected_image_counts(self, number: int) -> np.ndarray:
        """How often round `number` shows each image on average, shape (I,)."""
        raise NotImplementedError

    @property
    def round_length(self) -> int:
        """Number L of entries of every round, over all ranks."""
        return self.by_class.num_images

    @property
    def _needs_batch_size(self) -> bool:
        """Whether the stream depends on the iteration."""
        return False

    # --- the stream -----------------------------------------------------------------
    def round_stream(self, number: int) -> np.ndarray:
        """The indices of round (epoch) `number` for all ranks together, shape (L,)."""
        return self._draw_round(number, stream_generator(self.seed, number))

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this rank."""
        if not self.infinite:
            # As many for each rank, the missing ones from the beginning of the round.
            whole = np.resize(
                self.round_stream(self.epoch), len(self) * self.world_size
            )
            yield from _python_ints(
                whole[self.rank :: self.world_size][self._skipped :]
            )
            return
        position = self._skipped * self.world_size + self.rank
        while True:
            number, inside = divmod(position, self.round_length)
            part = self.round_stream(number)[inside :: self.world_size]
            yield from _python_ints(part)
            position += len(part) * self.world_size

    def __len__(self) -> int:
        """Entries of this rank in a round; constant."""
        return -(-self.round_length // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to show next; an endless stream needs none."""
        # Only the host's loops call this: a training whose iterations nobody counts
        # right must not start.
        if self._needs_batch_size and self.batch_size is None:
            raise ValueError(
                f'the schedule of {type(self).__name__} counts iterations: for the '
                "batch size add `dict(type='mmdet_imbalance.DataSamplerHook')` to "
                '`custom_hooks`, or write `batch_size=...` in the sampler'
            )
        if epoch != self.epoch and not self.infinite:
            self._skipped = 0
        self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Continue after `num_samples` entries of this rank, drawing no others.

        Counted from the start of the stream, or of the current epoch where the
        sampler is not infinite.

        Raises:
            ValueError: negative, or beyond the epoch of a finite sampler.
        """
        if not _is_count(num_samples):
            raise ValueError(
                f'`num_samples` must be an integer of at least 0, got {num_samples!r}'
            )
        if not self.infinite and num_samples > len(self):
            raise ValueError(
                f'cannot skip {num_samples} samples: an epoch of this rank has '
                f'{len(self)}. `IterBasedTrainLoop` needs `infinite=True` to resume.'
            )
        self._skipped = num_samples

    # --- time ---------------------------------------------------------------------
    def set_batch_size(self, batch_size: int) -> None:
        """Say how many images of a rank make an iteration."""
        if not _is_count(batch_size) or batch_size == 0:
            raise ValueError(f'`batch_size` must be at least 1, got {batch_size!r}')
        if self.batch_size not in (None, batch_size):
            raise ValueError(
                f'the sampler has batch_size={self.batch_size}, but the data loader '
                f'has {batch_size}: leave out the one of the sampler'
            )
        self.batch_size = batch_size
        self._print_summary()

    def times_of_round(self, number: int) -> int | np.ndarray:
        """Epoch of the round, or the iteration of each of its entries, shape (L,)."""
        if self.by_epoch:
            return number
        batch_size = self.batch_size or 1
        entries = np.arange(self.round_length)
        if self.infinite:
            entries += number * self.round_length
            return entries // self.world_size // batch_size
        iterations = -(-len(self) // batch_size)
        return number * iterations + entries // self.world_size // batch_size

    # --- what is printed ------------------------------------------------------------
    @property
    def _notable_rounds(self) -> list[int]:
        """Rounds that the summary tells apart."""
        return [0]

    def _print_summary(self) -> None:
        if self._is_summary_due:
            self._is_summary_due = False
            print_log(self.summary(), logger='current')

    def summary(self) -> str:
        """What is drawn from, and what an epoch will show of each class."""
        counts = self.by_class.img_count
        head = (
            f'{type(self).__name__}: {self.by_class.num_images} images '
            f'({self.num_unlabelled} without labels), '
            f'{np.count_nonzero(counts)} of {len(counts)} classes have images, '
            f'{len(self)} images an epoch and rank, seed {self.seed}'
        )
        table = self.epoch_table(self._notable_rounds)
        thirds = class_thirds(counts)
        text = text_table(table, counts, self.class_names, thirds, MAX_PRINTED)
        return f'{head}\n{text}'

    def epoch_table(self, epochs: Sequence[int]) -> EpochTable:
        """Images and boxes of each class that some rounds show on average."""
        rows = []
        for epoch in epochs:
            counts = self.expected_image_counts(epoch)
            rows.append((*self.by_class.seen(counts), counts.sum()))
        columns = (np.array(column) for column in zip(*rows, strict=True))
        return EpochTable(tuple(epochs), *columns, is_counted=False)


def _is_count(value) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0


def _python_ints(indices: np.ndarray) -> Iterator[int]:
    for start in range(0, len(indices), CHUNK):
        yield from indices[start : start + CHUNK].tolist()
