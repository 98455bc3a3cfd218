"""Soft-balance sampling with a scheduled exponent: hybrid training, and two relatives.

Peng et al., "Large-Scale Object Detection in the Wild from Imbalanced Multi-Labels",
CVPR 2020, https://arxiv.org/abs/2005.08455, soft-balance sampling and hybrid training.
Square-root and progressively balanced sampling: Kang et al., "Decoupling Representation
and Classifier", ICLR 2020, https://arxiv.org/abs/1910.09217, section 4.1.

Shapes: I images, L = I entries a round.
Deviations: exponent 0 is a plain shuffle, each image once, and not class-first drawing;
see also `core/index_streams.py`.
"""

from collections.abc import Sequence

import numpy as np

from mmdet_imbalance.core.balance_schedule import BalanceSchedule
from mmdet_imbalance.core.index_streams import soft_balance_stream
from mmdet_imbalance.datasets.samplers.epoch_text import MAX_PHASES
from mmdet_imbalance.datasets.samplers.stream_sampler import StreamSampler
from mmdet_imbalance.registry import DATA_SAMPLERS


class _BalancedSampler(StreamSampler):
    """Draws with a balance exponent that depends on the time.

    Args:
        dataset: a detection dataset of the host or a wrapper of some.
        schedule: what depends on the time.
        seed, by_epoch, infinite, batch_size, use_ignored, verbose: as StreamSampler.
    """

    def __init__(
        self,
        dataset,
        schedule: BalanceSchedule,
        seed: int | None = None,
        by_epoch: bool = True,
        infinite: bool | None = None,
        batch_size: int | None = None,
        use_ignored: bool = False,
        verbose: bool = True,
    ) -> None:
        self.schedule = schedule
        super().__init__(
            dataset, seed, by_epoch, infinite, batch_size, use_ignored, verbose
        )

    def _prepare(self, image_ptr: np.ndarray, labels: np.ndarray) -> None:
        if self.schedule.exponents.any() and not len(labels):
            raise ValueError(
                'no image of the dataset bears a label, so no class can be drawn: '
                'check the annotation, or use the schedule [(0, 0.0)]'
            )

    @property
    def _needs_batch_size(self) -> bool:
        return not self.by_epoch and not self.schedule.is_constant

    @property
    def _notable_rounds(self) -> list[int]:
        """Rounds in which the first points of the schedule lie."""
        if self.by_epoch:
            return self.schedule.times[:MAX_PHASES].tolist()
        if self.schedule.is_constant:
            return [0]
        per_round = self.round_length / self.world_size / (self.batch_size or 1)
        if not self.infinite:
            per_round = -(-len(self) // (self.batch_size or 1))
        rounds = np.unique(self.schedule.times // per_round)
        return rounds[:MAX_PHASES].astype(int).tolist()

    def values_of_round(self, number: int) -> float | np.ndarray:
        """Value of the schedule in round `number`, one or one an entry."""
        if self.schedule.is_constant:
            return float(self.schedule.exponents[0])
        values = self.schedule(self.times_of_round(number))
        # One value for all entries spares a pass over them.
        low, high = values.min(), values.max()
        return float(low) if low == high else values


@DATA_SAMPLERS.register_module()
class SoftBalanceSampler(_BalancedSampler):
    """Soft-balance sampling; with more than one point in `schedule`, hybrid training.

    An entry of the stream draws a class by `P_s(c) ∝ N_c^(1 - balance_exponent)` and
    then one of its images, without repetition until the class is exhausted.  Classes
    without images are left out.  While the exponent is 0 the stream is a plain
    shuffle: every image once an epoch, also those without labels, which are never
    drawn at other exponents.

    Args:
        dataset: a detection dataset of the host or a wrapper of some.
        schedule: pairs (epoch or iteration, balance exponent), beginning at 0.
            Exponent 0 is natural sampling, 1 class-aware, above over-balances.  The
            points of the paper could not be read: those of our configs are ours.
        interpolation: between two points 'step' holds, 'linear' and 'cosine' lead
            smoothly over.
        seed: the same on every rank; None agrees on a random one.
        by_epoch: whether the schedule counts epochs or iterations.
        infinite: endless stream for `IterBasedTrainLoop`, or one epoch for each
            `set_epoch` for `EpochBasedTrainLoop`; None: endless unless `by_epoch`.
        batch_size: images of a rank in an iteration, for a schedule by iteration.
            None: `DataSamplerHook` fills it in; outside a training an iteration is
            one image of each rank.
        use_ignored: whether boxes that the loss ignores (group-of, crowd) make their
            class present on an image.
        verbose: print once what the epochs will show, by class.

    Raises:
        ValueError: a bad schedule, an empty dataset, or a balanced schedule where no
            image has a label.
    """

    def __init__(
        self,
        dataset,
        schedule: Sequence[tuple[int, float]] = ((0, 0.0), (8, 0.7)),
        interpolation: str = 'step',
        seed: int | None = None,
        by_epoch: bool = True,
        infinite: bool | None = None,
        batch_size: int | None = None,
        use_ignored: bool = False,
        verbose: bool = True,
    ) -> None:
        super().__init__(
            dataset,
            BalanceSchedule(schedule, interpolation),
            seed,
            by_epoch,
            infinite,
            batch_size,
            use_ignored,
            verbose,
        )

    def _draw_round(self, number: int, generator: np.random.Generator) -> np.ndarray:
        return soft_balance_stream(
            self.by_class, self.values_of_round(number), generator
        )

    def expected_image_counts(self, number: int) -> np.ndarray:
        """How often round `number` shows each image on average, shape (I,)."""
        values, entries = np.unique(self.values_of_round(number), return_counts=True)
        entries = entries * (self.round_length / entries.sum())
        natural = entries[values == 0].sum() * self.by_class.image_probs(0)
        balanced = values > 0
        if not balanced.any():
            return natural
        draws = sum(
            num * self.by_class.class_probs(value)
            for value, num in zip(values[balanced], entries[balanced], strict=True)
        )
        return natural + self.by_class.image_sums(draws)


@DATA_SAMPLERS.register_module()
class SquareRootSampler(SoftBalanceSampler):
    """Square-root sampling: classes drawn by `P(c) ∝ sqrt(N_c)` all the time.

    The same as `SoftBalanceSampler(schedule=[(0, 0.5)])`.

    Args:
        dataset: a detection dataset of the host or a wrapper of some.
        seed, infinite, use_ignored, verbose: as `SoftBalanceSampler`.
    """

    balance_exponent = 0.5

    def __init__(
        self,
        dataset,
        seed: int | None = None,
        infinite: bool = False,
        use_ignored: bool = False,
        verbose: bool = True,
    ) -> None:
        super().__init__(
            dataset,
            [(0, self.balance_exponent)],
            seed=seed,
            infinite=infinite,
            use_ignored=use_ignored,
            verbose=verbose,
        )


@DATA_SAMPLERS.register_module()
class UniformClassSampler(SquareRootSampler):
    """Class-aware sampling: every class with images is drawn equally often.

    The same as `SoftBalanceSampler(schedule=[(0, 1.0)])`.  Differs from the host's
    `ClassAwareSampler`: classes are drawn independently, ranks take strided slices,
    boxes that the loss ignores are no presence, any wrapper of datasets will do.

    Args:
        dataset: a detection dataset of the host or a wrapper of some.
        seed, infinite, use_ignored, verbose: as `SoftBalanceSampler`.
    """

    balance_exponent = 1.0


@DATA_SAMPLERS.register_module()
class ProgressivelyBalancedSampler(_BalancedSampler):
    """From natural to class-aware sampling, mixed in a share that grows to 1.

    An entry is drawn class-aware with probability `time / end`, and taken from a plain
    shuffle otherwise.  Unlike a ramp of the balance exponent this is an arithmetic
    mixture of the two.

    Args:
        dataset: a detection dataset of the host or a wrapper of some.
        end: epoch or iteration from which on all entries are class-aware.  The paper
            takes the number of epochs of the training.
        seed, by_epoch, infinite, batch_size, use_ignored, verbose: as
            `SoftBalanceSampler`.
    """

    def __init__(
        self,
        dataset,
        end: int,
        seed: int | None = None,
        by_epoch: bool = True,
        infinite: bool | None = None,
        batch_size: int | None = None,
        use_ignored: bool = False,
        verbose: bool = True,
    ) -> None:
        if end < 1:
            raise ValueError(f'`end` must be at least 1, got {end!r}')
        super().__init__(
            dataset,
            BalanceSchedule([(0, 0.0), (end, 1.0)], 'linear'),
            seed,
            by_epoch,
            infinite,
            batch_size,
            use_ignored,
            verbose,
        )

    def _draw_round(self, number: int, generator: np.random.Generator) -> np.ndarray:
        share = self.values_of_round(number)
        balanced = generator.random(self.round_length) < share
        return soft_balance_stream(self.by_class, balanced.astype(float), generator)

    def expected_image_counts(self, number: int) -> np.ndarray:
        """How often round `number` shows each image on average, shape (I,)."""
        share = float(np.mean(self.values_of_round(number)))
        probs = (1 - share) * self.by_class.image_probs(0)
        return self.round_length * (probs + share * self.by_class.image_probs(1))
