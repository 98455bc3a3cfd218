"""Drawing image indices: natural, class first, and by repeat factor.

A stream is a pure function of the label statistics and a random generator, so that
every rank computes the same one and takes its strided slice.  Methods and papers are
named in `resampling`.

Shapes: n draws, I images, C classes.
Deviations: within an epoch the images of a drawn class come without repetition until
the class is exhausted, and start anew each epoch; the paper says only "an image".
"""

import numpy as np

from mmdet_imbalance.core.resampling import ImagesByClass


def stream_generator(seed: int, epoch: int) -> np.random.Generator:
    """Generator of one epoch (or of one round of an endless stream)."""
    if seed < 0:
        raise ValueError(f'`seed` must not be negative, got {seed}')
    return np.random.default_rng([seed, epoch])


def soft_balance_stream(
    by_class: ImagesByClass,
    balance_exponent: float | np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Indices of one epoch, as many as there are images.

    Args:
        by_class: which images show each class.
        balance_exponent: one for the epoch, or one for each draw, shape (I,).  Draws
            with 0 walk through a shuffle of all images; the others draw a class by
            `soft_balance_class_probs` and then one of its images.
        generator: owner of the randomness.

    Returns:
        Shape (I,), int32.
    """
    num = by_class.num_images
    exponents = np.broadcast_to(np.asarray(balance_exponent, float), num)
    levels = np.unique(balance_exponent)
    stream = np.empty(num, np.int32)
    classes = np.zeros(num, np.int32)
    for level in levels:
        at_level = exponents == level
        if level == 0:
            shuffled = generator.permutation(np.arange(num, dtype=np.int32))
            stream[at_level] = shuffled[: np.count_nonzero(at_level)]
        else:
            classes[at_level] = draw_classes(
                by_class.class_probs(level), np.count_nonzero(at_level), generator
            )
    balanced = exponents != 0
    if balanced.any():
        stream[balanced] = draw_images(by_class, classes[balanced], generator)
    return stream


def draw_classes(
    probs: np.ndarray, num: int, generator: np.random.Generator
) -> np.ndarray:
    """Independent draws of a class, shape (num,), int32."""
    edges = np.cumsum(probs)
    # Dividing makes the last edge exactly 1, above every draw.
    edges /= edges[-1]
    drawn = np.searchsorted(edges, generator.random(num), side='right')
    return drawn.astype(np.int32)


def draw_images(
    by_class: ImagesByClass, classes: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """An image for each drawn class, without repetition until the class is exhausted.

    Args:
        by_class: which images show each class.
        classes: shape (n,).
        generator: owner of the randomness.

    Returns:
        Shape (n,), int32.
    """
    img_count = by_class.img_count
    times = np.bincount(classes, minlength=len(img_count))
    # 1. Lay the draws out by class, in their order: draw k of class c is item k % N_c
    #    of that class's (k // N_c)-th pass.
    # 2. A last pass that needs less than half of its class is drawn by rejection, at
    #    the cost of the draws; the other passes are shuffled whole, at that of at most
    #    twice the draws.  Either way a huge class that is drawn rarely costs little.
    last_need = times % np.maximum(img_count, 1)
    num_sparse = np.where(2 * last_need < img_count, last_need, 0)
    is_sparse = np.repeat(
        np.tile([False, True], len(times)),
        np.column_stack([times - num_sparse, num_sparse]).ravel(),
    )
    position = np.empty(len(classes), np.int32)
    position[is_sparse] = _distinct_positions(by_class, num_sparse, generator)
    position[~is_sparse] = _shuffled_passes(by_class, times - num_sparse, generator)
    # 3. Back to the order in which the classes were drawn.
    drawn = np.empty(len(classes), np.int32)
    small = classes.astype(np.min_scalar_type(len(times)), copy=False)
    drawn[np.argsort(small, kind='stable')] = by_class.images[position]
    return drawn


def _distinct_positions(
    by_class: ImagesByClass, times: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Distinct random positions within each class's list, by rejection.

    One of those that propose a free position gets it, all others propose again.  No
    step looks at the value of a position, so every ordered choice is equally likely.

    Args:
        by_class: which images show each class.
        times: positions wanted of each class, at most half of its images, shape (C,).
        generator: owner of the randomness.

    Returns:
        Laid out by class, shape (times.sum(),), int32.
    """
    class_ptr = by_class.class_ptr.astype(np.int32)
    img_count = np.diff(class_ptr)
    classes = np.repeat(np.arange(len(times), dtype=np.int32), times)
    position = np.empty(len(classes), np.int32)
    owner = np.full(len(by_class.images), -1, np.int32)
    waiting = np.arange(len(classes), dtype=np.int32)
    while waiting.size:
        asked = classes[waiting]
        fraction = generator.random(len(waiting))
        proposal = class_ptr[asked] + (fraction * img_count[asked]).astype(np.int32)
        free = owner[proposal] < 0
        # Of equal indices numpy keeps one assignment: that draw has the position.
        owner[proposal[free]] = waiting[free]
        position[waiting] = proposal
        waiting = waiting[owner[proposal] != waiting]
    return position


def _shuffled_passes(
    by_class: ImagesByClass, times: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Positions of whole passes through each class, the last cut to what is needed.

    Args:
        by_class: which images show each class.
        times: draws of each class, shape (C,).
        generator: owner of the randomness.

    Returns:
        Laid out by class and pass, shape (times.sum(),), int32.
    """
    img_count = by_class.img_count
    passes = -(-times // np.maximum(img_count, 1))
    # 1. One row a pass, one item for each image of its class.
    class_of_pass = np.repeat(np.arange(len(times)), passes)
    num_items = img_count[class_of_pass]
    pass_of = np.repeat(np.arange(len(class_of_pass), dtype=np.int32), num_items)
    # 2. Sorting by pass and then by a random fraction shuffles each pass by itself.
    key = generator.random(len(pass_of))
    key += pass_of
    shuffled = np.argsort(key).astype(np.int32)
    del key
    # 3. Only the first `need` items of a pass were drawn.
    start = np.cumsum(num_items) - num_items
    pass_number = np.arange(len(class_of_pass)) - np.repeat(
        np.cumsum(passes) - passes, passes
    )
    need = np.minimum(num_items, times[class_of_pass] - pass_number * num_items)
    end_of_need = (start + need).astype(np.int32)
    kept = np.arange(len(pass_of), dtype=np.int32) < end_of_need[pass_of]
    offset = (by_class.class_ptr[class_of_pass] - start).astype(np.int32)
    return (shuffled + offset[pass_of])[kept]


def repeat_factor_stream(
    factors: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Indices of one epoch in which image i appears `factors[i]` times on average.

    The fractional part is rounded up or down at random, anew each epoch.  Images are
    rounded together along a random order (systematic sampling), so that each is
    rounded up with exactly its own fraction while the length of the epoch varies by at
    most one; where it falls one short, an entry of the epoch is shown once more.

    Args:
        factors: shape (I,), at least 1.
        generator: owner of the randomness.

    Returns:
        Shape (`repeat_factor_length(factors)`,), int32.
    """
    base = np.floor(factors)
    order = generator.permutation(len(factors))
    edges = np.floor(np.cumsum((factors - base)[order]) + generator.random())
    copies = base.astype(np.int64)
    copies[order] += np.diff(edges, prepend=0).astype(np.int64)
    stream = np.repeat(np.arange(len(factors), dtype=np.int32), copies)
    return np.resize(generator.permutation(stream), repeat_factor_length(factors))


def repeat_factor_length(factors: np.ndarray) -> int:
    """Length of every epoch of `repeat_factor_stream`: the sum, rounded up."""
    # Summed part by part as the stream sums it, so that rounding errors of a large sum
    # of integers cannot add an entry.
    base = np.floor(factors)
    return int(base.sum()) + int(np.ceil(round((factors - base).sum(), 6)))
