"""Which images an epoch shows: class probabilities and repeat factors, closed forms.

Soft balance: Peng et al., "Large-Scale Object Detection in the Wild from Imbalanced
Multi-Labels", CVPR 2020, https://arxiv.org/abs/2005.08455:
`P_s(c) ∝ N_c^(1 - balance_exponent)`; 0 is natural, 1 class-aware, above over-balances.
Repeat factors: Gupta et al., "LVIS", CVPR 2019, https://arxiv.org/abs/1908.03195:
`r(I) = max over the classes c of image I of max(1, sqrt(oversample_thr / f(c)))`.

Shapes: I images, C classes, M pairs of an image and a class that it shows.
Deviations: none.  Drawing by these probabilities is in `index_streams`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def soft_balance_class_probs(img_count: Tensor, balance_exponent: float) -> Tensor:
    """Probability with which soft balance draws each class.

    Args:
        img_count: number of images that show each class, shape (C,).
        balance_exponent: 0 gives `N_c / N`, 1 the same to every class that has an
            image, more than 1 favours rare classes over frequent ones.

    Returns:
        Probabilities that sum to 1, shape (C,), float64; 0 for a class without images.

    Raises:
        ValueError: negative or non-finite input, or no class has an image.
    """
    counts = torch.as_tensor(img_count)
    if counts.ndim != 1:
        raise ValueError(f'`img_count` must have shape (C,), got {tuple(counts.shape)}')
    counts = counts.double()
    if not bool((torch.isfinite(counts) & (counts >= 0)).all()):
        raise ValueError('`img_count` must be finite and not negative')
    if not bool((counts > 0).any()):
        raise ValueError(
            '`img_count` is zero for every class: there is no image to draw. Check the '
            'labels, or use balance exponent 0 (a plain shuffle).'
        )
    # In logarithms, so that a large exponent cannot overflow; log 0 = -inf gives
    # probability 0, also where the exponent turns the order round.
    log_probs = (1.0 - check_balance_exponent(balance_exponent)) * counts.log()
    return torch.where(counts > 0, log_probs, -torch.inf).softmax(dim=0)


def check_balance_exponent(balance_exponent: float) -> float:
    """The exponent as a float, or ValueError where it is negative or not finite."""
    try:
        exponent = float(balance_exponent)
    except (TypeError, ValueError):
        exponent = -1.0
    if not np.isfinite(exponent) or exponent < 0:
        raise ValueError(
            '`balance_exponent` must be a finite number of at least 0 (0 natural, '
            f'1 class-aware, above over-balances), got {balance_exponent!r}'
        )
    return exponent


def repeat_factors(
    image_labels: Sequence[Collection[int]], img_freq: Tensor, oversample_thr: float
) -> Tensor:
    """Repeat factor of each image.

    Args:
        image_labels: for each image the labels that it shows; may be empty.
        img_freq: fraction of the images that show each class, shape (C,).
        oversample_thr: classes on a smaller fraction of the images are repeated.  The
            paper uses 0.001 on LVIS.

    Returns:
        Factors of at least 1, shape (I,), float64; 1 for an image without labels.

    Raises:
        ValueError: a label outside [0, C) or on a class whose frequency is 0.
    """
    labels = [
        np.asarray(one.tolist() if isinstance(one, Tensor) else list(one), np.int64)
        for one in image_labels
    ]
    image_ptr = np.zeros(len(labels) + 1, np.int64)
    np.cumsum([one.size for one in labels], out=image_ptr[1:])
    flat = np.concatenate([np.zeros(0, np.int64), *labels])
    freq = np.asarray(torch.as_tensor(img_freq).double().cpu())
    return torch.from_numpy(
        repeat_factors_of_index(image_ptr, flat, freq, oversample_thr)
    )


def repeat_factors_of_index(
    image_ptr: np.ndarray,
    labels: np.ndarray,
    img_freq: np.ndarray,
    oversample_thr: float,
) -> np.ndarray:
    """`repeat_factors` on compressed rows: image i shows labels[ptr[i]:ptr[i + 1]].

    Args:
        image_ptr: shape (I + 1,).
        labels: shape (image_ptr[-1],); repeated labels change nothing.
        img_freq: fraction of the images that show each class, shape (C,).
        oversample_thr: a fraction of the images, in [0, 1].

    Returns:
        Shape (I,), float64.
    """
    if not 0 <= oversample_thr <= 1:
        raise ValueError(
            '`oversample_thr` is a fraction of the images in [0, 1], got '
            f'{oversample_thr!r}'
        )
    if img_freq.ndim != 1 or not np.all((img_freq >= 0) & (img_freq <= 1)):
        raise ValueError('`img_freq` must have shape (C,) and lie in [0, 1]')
    check_labels(image_ptr, labels, len(img_freq))
    with np.errstate(divide='ignore', invalid='ignore'):
        class_factor = np.maximum(1.0, np.sqrt(oversample_thr / img_freq))
    # 0 / 0, no threshold and no image, is no reason to repeat.
    class_factor[np.isnan(class_factor)] = 1.0
    factor_of_label = class_factor[labels]
    if not np.isfinite(factor_of_label).all():
        wrong = labels[~np.isfinite(factor_of_label)][0]
        raise ValueError(
            f'`img_freq` of class {wrong} is 0, but an image shows it: the frequencies '
            'were counted on other images'
        )
    # reduceat would give an empty row the first factor of the next one: leave it out.
    factors = np.ones(len(image_ptr) - 1)
    occupied = np.flatnonzero(np.diff(image_ptr))
    if occupied.size:
        factors[occupied] = np.maximum.reduceat(factor_of_label, image_ptr[occupied])
    return factors


def check_labels(image_ptr: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    """Raise ValueError for a label outside [0, C), naming its image."""
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        row = int(np.flatnonzero((labels < 0) | (labels >= num_classes))[0])
        image = int(np.searchsorted(image_ptr, row, side='right')) - 1
        raise ValueError(
            f'label {int(labels[row])} of image {image} lies outside the '
            f'{num_classes} classes of the dataset'
        )


def without_ignored(
    image_ptr: np.ndarray, labels: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compressed rows without the boxes that do not make their class present.

    Args:
        image_ptr: shape (I + 1,).
        labels: shape (image_ptr[-1],).
        ignored: bool, shape (image_ptr[-1],).

    Returns:
        `image_ptr` and `labels` of what is left.
    """
    if not ignored.any():
        return image_ptr, labels
    kept = ~ignored
    kept_before = np.zeros(len(kept) + 1, np.int32)
    np.cumsum(kept, out=kept_before[1:])
    return kept_before[image_ptr].astype(np.int64), labels[kept]


@dataclass(frozen=True, eq=False)
class ImagesByClass:
    """Which images show each class, as compressed rows.

    Attributes:
        class_ptr: shape (C + 1,), int64.
        images: image indices, ascending within a class, shape (M,), int32.
        instances: boxes of the class on that image, shape (M,), int32.
        num_images: I, also those that show no class.
    """

    class_ptr: np.ndarray
    images: np.ndarray
    instances: np.ndarray
    num_images: int

    @classmethod
    def from_labels(
        cls,
        image_ptr: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
    ) -> 'ImagesByClass':
        """Turn labels by image into images by class.

        Args:
            image_ptr: shape (I + 1,).
            labels: one entry a box, shape (image_ptr[-1],).
            num_classes: C.
        """
        labels = np.asarray(labels)
        check_labels(image_ptr, labels, num_classes)
        num_images = len(image_ptr) - 1
        image_of = np.repeat(
            np.arange(num_images, dtype=np.int32), np.diff(np.asarray(image_ptr))
        )
        # A stable sort of 16-bit labels is a radix sort (linear), and leaves the boxes
        # of an image in a class side by side.
        if num_classes <= 1 << 16:
            labels = labels.astype(np.uint16)
        order = np.argsort(labels, kind='stable')
        labels, image_of = labels[order], image_of[order]
        first = np.ones(len(labels), bool)
        first[1:] = (labels[1:] != labels[:-1]) | (image_of[1:] != image_of[:-1])
        start = np.flatnonzero(first).astype(np.int32)
        # Labels are sorted now: a class begins where a search finds it.
        # (In its own type: another one would copy all labels.)
        classes = np.arange(num_classes).astype(labels.dtype)
        class_start = np.append(np.searchsorted(labels, classes), len(labels))
        class_ptr = np.searchsorted(start, class_start).astype(np.int64)
        instances = np.diff(start, append=np.int32(len(first)))
        return cls(class_ptr, image_of[start], instances, num_images)

    @property
    def img_count(self) -> np.ndarray:
        """Number of images that show each class, shape (C,)."""
        return np.diff(self.class_ptr)

    def class_probs(self, balance_exponent: float) -> np.ndarray:
        """`soft_balance_class_probs` of these counts, shape (C,)."""
        counts = torch.from_numpy(self.img_count)
        return soft_balance_class_probs(counts, balance_exponent).numpy()

    def image_probs(self, balance_exponent: float) -> np.ndarray:
        """Probability that one draw shows each image, shape (I,); sums to 1.

        Exponent 0 is the plain shuffle, the same for every image, and not the limit of
        class-first drawing, which favours images of many classes.
        """
        if check_balance_exponent(balance_exponent) == 0:
            return np.full(self.num_images, 1.0 / max(self.num_images, 1))
        return self.image_sums(self.class_probs(balance_exponent))

    def image_sums(self, class_draws: np.ndarray) -> np.ndarray:
        """How often each image is drawn where a class gives its draws evenly.

        Args:
            class_draws: draws of each class (or probabilities), shape (C,).

        Returns:
            Shape (I,), with the sum of `class_draws`.
        """
        per_image = class_draws / np.maximum(self.img_count, 1)
        return np.bincount(
            self.images,
            weights=np.repeat(per_image, self.img_count),
            minlength=self.num_images,
        )

    def seen(self, image_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many images and boxes of each class are shown.

        Args:
            image_counts: how often each image is shown (or expected to), shape (I,).

        Returns:
            Images with the class and boxes of the class, shape (C,) each.
        """
        image_counts = np.asarray(image_counts, float)
        if image_counts.size and image_counts.min() == image_counts.max():
            # A plain shuffle: no look at each image of each class.
            boxes = self._sum_by_class(self.instances)
            return image_counts[0] * self.img_count, image_counts[0] * boxes
        shown = image_counts[self.images]
        return self._sum_by_class(shown), self._sum_by_class(shown * self.instances)

    def _sum_by_class(self, values: np.ndarray) -> np.ndarray:
        # Without the empty classes, to which reduceat would give the first value of the
        # next one.
        has_images = self.img_count > 0
        sums = np.zeros(len(has_images))
        if has_images.any():
            sums[has_images] = np.add.reduceat(values, self.class_ptr[:-1][has_images])
        return sums


def class_thirds(img_count: np.ndarray) -> dict[str, np.ndarray]:
    """Head, middle and tail: thirds of the classes that have images, by their number.

    Args:
        img_count: shape (C,).

    Returns:
        Name of a third to its classes, most frequent first.
    """
    order = np.argsort(-img_count, kind='stable')
    parts = np.array_split(order[img_count[order] > 0], 3)
    return dict(zip(('head', 'middle', 'tail'), parts, strict=True))
