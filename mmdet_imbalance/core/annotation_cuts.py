"""Controlled imbalance and incompleteness: what to keep of a real annotation.

Long-tailed profile: Cui et al., "Class-Balanced Loss", CVPR 2019, arXiv 1901.05555:
n_i = n_max * factor^(-i / (C - 1)).  Partial annotation, FPC and RPA: Ben-Baruch et
al., CVPR 2022, arXiv 2110.10955.

Shapes: I images, M rows (one label of one box each), C classes.  Every choice is drawn
from a numpy generator that the caller seeds.
Deviations: classification drops images of one class each.  An image of a detection set
bears many classes, so counts can only be approached from below (`choose_images`).
"""

import numpy as np


def long_tailed_counts(counts: np.ndarray, imbalance_factor: float) -> np.ndarray:
    """Exponential profile over the classes, by falling count.

    Args:
        counts: boxes of each class, int (C,).
        imbalance_factor: largest over smallest target, at least 1.

    Returns:
        Targets, int64 (C,): never above `counts`, at least 1 where there is a box.

    Raises:
        ValueError: a factor below 1.
    """
    if not imbalance_factor >= 1:
        raise ValueError(
            f'`imbalance_factor` must be at least 1, got {imbalance_factor}'
        )
    counts = np.asarray(counts, dtype=np.int64)
    order = np.argsort(-counts, kind='stable')
    order = order[counts[order] > 0]
    targets = np.zeros_like(counts)
    if order.size:
        rank = np.arange(order.size) / max(order.size - 1, 1)
        profile = counts[order[0]] * float(imbalance_factor) ** -rank
        # A power that is a whole number must not lose 1 to rounding.
        profile = np.floor(profile * (1 + 1e-12)).astype(np.int64)
        targets[order] = np.clip(profile, 1, counts[order])
    return targets


def choose_images(
    image: np.ndarray,
    label: np.ndarray,
    num_images: int,
    targets: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Images to keep so that no class exceeds its target.

    Images are taken in random order, those with the scarcest classes first, and kept
    where all of their classes still have room.  No box is lost within an image, so
    nothing becomes an un-annotated object.

    Args:
        image: image of each row, int (M,), in [0, I).
        label: class of each row, int (M,), in [0, C).
        num_images: I.
        targets: largest count of each class, int (C,).
        rng: source of the order.

    Returns:
        bool (I,); images without rows are kept.
    """
    order_of_rows = np.argsort(image, kind='stable')
    labels = np.asarray(label)[order_of_rows]
    ends = np.cumsum(np.bincount(image, minlength=num_images))
    starts = np.concatenate([[0], ends[:-1]])
    scarcest = np.full(num_images, np.iinfo(np.int64).max)
    np.minimum.at(scarcest, image, np.asarray(targets)[label])
    shuffled = rng.permutation(num_images)
    keep = np.zeros(num_images, dtype=bool)
    room = np.asarray(targets, dtype=np.int64).copy()
    for i in shuffled[np.argsort(scarcest[shuffled], kind='stable')]:
        classes, num = np.unique(labels[starts[i] : ends[i]], return_counts=True)
        if (room[classes] >= num).all():
            room[classes] -= num
            keep[i] = True
    return keep


def choose_rows(
    label: np.ndarray, targets: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Rows to keep, exactly `targets` a class where there are as many.

    Args:
        label: int (M,), in [0, C).
        targets: int (C,).
        rng: source of the choice.

    Returns:
        bool (M,).
    """
    label = np.asarray(label)
    shuffled = rng.permutation(len(label))
    by_class = shuffled[np.argsort(label[shuffled], kind='stable')]
    counts = np.bincount(label, minlength=len(targets))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.arange(len(label)) - np.repeat(starts, counts)
    keep = np.zeros(len(label), dtype=bool)
    keep[by_class] = place < np.asarray(targets)[label[by_class]]
    return keep


def fixed_per_class(
    present: np.ndarray, num_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """FPC: each class is annotated on as many images with it as without it.

    Args:
        present: bool (I, C), which classes each image shows.
        num_samples: images annotated for a class, of each kind; all where there are
            fewer.
        rng: source of the choice.

    Returns:
        Annotated entries, bool (I, C).

    Raises:
        ValueError: fewer than 1 sample.
    """
    if num_samples < 1:
        raise ValueError(f'`num_samples` must be at least 1, got {num_samples}')
    key = rng.random(present.shape)
    annotated = np.zeros_like(present)
    for of_kind in (present, ~present):
        # Rank of each entry among those of its kind in its column.
        rank = np.where(of_kind, key, 2.0).argsort(axis=0).argsort(axis=0)
        annotated |= of_kind & (rank < num_samples)
    return annotated


def random_per_annotation(
    shape: tuple[int, int], drop_prob: float, rng: np.random.Generator
) -> np.ndarray:
    """RPA: every (image, class) entry loses its annotation with the same probability.

    Args:
        shape: (I, C).
        drop_prob: in [0, 1].
        rng: source of the choice.

    Returns:
        Annotated entries, bool (I, C).
    """
    _check_probability('drop_prob', drop_prob)
    return rng.random(shape) >= drop_prob


def replace_by_parent(
    label: np.ndarray,
    parents: list[list[int]],
    probability: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Replace labels by one of their direct parents, as a hasty annotator would.

    Args:
        label: int (M,).
        parents: direct parents of each class, C lists; empty for roots.
        probability: of a replacement, where the class has a parent.
        rng: source of the choice.

    Returns:
        int (M,).
    """
    _check_probability('probability', probability)
    label = np.array(label)
    num = np.array([len(p) for p in parents])
    flat = np.array([p for row in parents for p in row], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(num)[:-1]]).astype(np.int64)
    hit = (rng.random(len(label)) < probability) & (num[label] > 0)
    pick = (rng.random(len(label)) * num[label]).astype(np.int64)
    label[hit] = flat[starts[label[hit]] + pick[hit]]
    return label


def keep_one_label(
    image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Keep one row, at random, of those that share a box: an annotator picks one label.

    Args:
        image: int (M,).
        boxes: (M, 4); rows are of one object where image and box are equal.
        rng: source of the choice.

    Returns:
        bool (M,).
    """
    key = np.column_stack([np.asarray(image, dtype=np.float64), boxes])
    _, owner = np.unique(key, axis=0, return_inverse=True)
    shuffled = rng.permutation(len(key))
    _, first = np.unique(owner.reshape(-1)[shuffled], return_index=True)
    keep = np.zeros(len(key), dtype=bool)
    keep[shuffled[first]] = True
    return keep


def noisy_labels(
    label: np.ndarray, num_classes: int, rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Replace labels by another class, uniformly.

    Args:
        label: int (M,).
        num_classes: C.
        rate: probability that a label becomes wrong, in [0, 1].
        rng: source of the choice.

    Returns:
        int (M,).
    """
    _check_probability('rate', rate)
    if num_classes < 2:
        raise ValueError('a label cannot become wrong where there is one class')
    label = np.asarray(label)
    # A shift by 1 to C - 1 never meets the class itself.
    shift = rng.integers(1, num_classes, size=len(label))
    wrong = (label + shift) % num_classes
    return np.where(rng.random(len(label)) < rate, wrong, label)


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f'`{name}` must be in [0, 1], got {value}')
