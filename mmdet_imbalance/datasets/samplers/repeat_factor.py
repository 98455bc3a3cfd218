"""Repeat factor sampling with stochastic rounding, drawn anew each epoch.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019,
https://arxiv.org/abs/1908.03195, appendix B: `r(I) = max_c max(1, sqrt(t / f(c)))`.

Shapes: I images, L entries a round.
Deviations: images are rounded together (see `core/index_streams.py`), so that the
length of an epoch is constant, as the host's epoch loop needs it.
"""

import numpy as np

from mmdet_imbalance.core.index_streams import (
    repeat_factor_length,
    repeat_factor_stream,
)
from mmdet_imbalance.core.resampling import repeat_factors_of_index
from mmdet_imbalance.datasets.samplers.stream_sampler import StreamSampler
from mmdet_imbalance.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(StreamSampler):
    """Shows images of rare classes more than once an epoch.

    The host's `ClassBalancedDataset` does so with factors rounded up, once and for all:
    1.01 becomes 2 copies.  Here 1.01 gives a second copy in 1 of 100 epochs.

    Args:
        dataset: a detection dataset of the host or a wrapper of some.
        oversample_thr: classes on a smaller fraction of the images are repeated.  The
            paper uses 0.001 on LVIS.
        seed: the same on every rank; None agrees on a random one.
        infinite: endless stream for `IterBasedTrainLoop`.
        use_ignored: whether boxes that the loss ignores (group-of, crowd) make their
            class present on an image.
        verbose: print once what the epochs will show, by class.
    """

    def __init__(
        self,
        dataset,
        oversample_thr: float,
        seed: int | None = None,
        infinite: bool = False,
        use_ignored: bool = False,
        verbose: bool = True,
    ) -> None:
        self.oversample_thr = oversample_thr
        super().__init__(
            dataset, seed, infinite=infinite, use_ignored=use_ignored, verbose=verbose
        )

    def _prepare(self, image_ptr: np.ndarray, labels: np.ndarray) -> None:
        img_freq = self.by_class.img_count / self.by_class.num_images
        self.repeat_factors = repeat_factors_of_index(
            image_ptr, labels, img_freq, self.oversample_thr
        )
        self._length = repeat_factor_length(self.repeat_factors)

    @property
    def round_length(self) -> int:
        """Number L of entries of every round, over all ranks."""
        return self._length

    def _draw_round(self, number: int, generator: np.random.Generator) -> np.ndarray:
        return repeat_factor_stream(self.repeat_factors, generator)

    def expected_image_counts(self, number: int) -> np.ndarray:
        """How often a round shows each image on average, shape (I,)."""
        return self.repeat_factors * (self._length / self.repeat_factors.sum())
