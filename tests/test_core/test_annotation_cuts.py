import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.annotation_cuts import (
    choose_images,
    choose_rows,
    fixed_per_class,
    keep_one_label,
    long_tailed_counts,
    noisy_labels,
    random_per_annotation,
    replace_by_parent,
)

seeds = st.integers(0, 10**6)


def rows(seed, num_images=40, num_classes=6, num_rows=300):
    rng = np.random.default_rng(seed)
    label = np.minimum(rng.geometric(0.4, num_rows) - 1, num_classes - 1)
    return rng.integers(0, num_images, num_rows), label, num_images, num_classes


def test_profile_of_equal_counts_is_the_papers():
    got = long_tailed_counts(np.full(5, 1000), 100)
    assert got.tolist() == [int(1000 * 100 ** (-i / 4) + 1e-9) for i in range(5)]
    assert got.tolist() == [1000, 316, 100, 31, 10]


def test_profile_keeps_order_and_never_exceeds_what_there_is():
    got = long_tailed_counts(np.array([3, 0, 900, 50, 1]), 1000)
    assert got[1] == 0
    assert got.tolist() == [3, 0, 900, 50, 1]
    got = long_tailed_counts(np.array([100, 90, 80]), 50)
    assert got.tolist() == [100, 14, 2]
    with pytest.raises(ValueError, match='at least 1'):
        long_tailed_counts(np.array([1, 2]), 0.5)


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(1, 200))
def test_chosen_images_stay_below_the_targets_and_cannot_be_added_to(seed, factor):
    image, label, num_images, num_classes = rows(seed)
    counts = np.bincount(label, minlength=num_classes)
    targets = long_tailed_counts(counts, factor)
    keep = choose_images(image, label, num_images, targets, np.random.default_rng(seed))
    kept = np.bincount(label[keep[image]], minlength=num_classes)
    assert (kept <= targets).all()
    for i in np.flatnonzero(~keep):
        more = np.bincount(label[image == i], minlength=num_classes)
        assert (kept + more > targets).any()


def test_no_target_below_the_counts_keeps_everything():
    image, label, num_images, num_classes = rows(0)
    counts = np.bincount(label, minlength=num_classes)
    rng = np.random.default_rng(0)
    assert choose_images(image, label, num_images, counts, rng).all()
    assert choose_rows(label, counts, rng).all()


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_chosen_rows_meet_the_targets_exactly(seed):
    _, label, _, num_classes = rows(seed)
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 60, num_classes)
    keep = choose_rows(label, targets, rng)
    want = np.minimum(targets, np.bincount(label, minlength=num_classes))
    np.testing.assert_array_equal(np.bincount(label[keep], minlength=num_classes), want)


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 30))
def test_fixed_per_class_annotates_as_many_of_each_kind(seed, num_samples):
    rng = np.random.default_rng(seed)
    present = rng.random((40, 7)) < rng.random(7)
    annotated = fixed_per_class(present, num_samples, rng)
    for of_kind in (present, ~present):
        want = np.minimum(of_kind.sum(0), num_samples)
        np.testing.assert_array_equal((annotated & of_kind).sum(0), want)


def test_random_per_annotation_drops_the_asked_fraction():
    rng = np.random.default_rng(0)
    kept = random_per_annotation((400, 100), 0.3, rng).mean()
    # Standard deviation 0.0023.
    assert abs(kept - 0.7) < 0.01
    assert random_per_annotation((5, 5), 0.0, rng).all()
    assert not random_per_annotation((5, 5), 1.0, rng).any()


def test_parents_replace_children_and_roots_stay():
    rng = np.random.default_rng(0)
    parents = [[], [0], [0, 1], []]
    label = np.array([0, 1, 2, 3] * 500)
    got = replace_by_parent(label, parents, 1.0, rng)
    assert (got[label == 0] == 0).all()
    assert (got[label == 3] == 3).all()
    assert (got[label == 1] == 0).all()
    picked = np.bincount(got[label == 2], minlength=2)
    assert picked.sum() == 500
    assert abs(picked[0] - 250) < 60
    np.testing.assert_array_equal(replace_by_parent(label, parents, 0.0, rng), label)


def test_one_label_of_a_shared_box_is_kept_at_random():
    image = np.array([0, 0, 0, 1] * 300) + np.repeat(np.arange(300) * 2, 4)
    boxes = np.tile([[0, 0, 5, 5], [0, 0, 5, 5], [1, 1, 5, 5], [0, 0, 5, 5]], (300, 1))
    keep = keep_one_label(image, boxes, np.random.default_rng(0)).reshape(300, 4)
    assert keep[:, 2:].all()
    assert (keep[:, :2].sum(1) == 1).all()
    assert abs(keep[:, 0].sum() - 150) < 45


def test_noise_turns_the_asked_fraction_into_other_classes():
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(5), 2000)
    got = noisy_labels(label, 5, 0.4, rng)
    assert abs((got != label).mean() - 0.4) < 0.02
    wrong = got[(label == 2) & (got != label)]
    share = np.bincount(wrong, minlength=5) / len(wrong)
    assert share[2] == 0
    np.testing.assert_allclose(share[[0, 1, 3, 4]], 0.25, atol=0.06)
    np.testing.assert_array_equal(noisy_labels(label, 5, 0.0, rng), label)


def test_impossible_arguments_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match='num_samples'):
        fixed_per_class(np.ones((2, 2), bool), 0, rng)
    with pytest.raises(ValueError, match='drop_prob'):
        random_per_annotation((2, 2), 1.5, rng)
    with pytest.raises(ValueError, match='rate'):
        noisy_labels(np.zeros(2, int), 3, -0.1, rng)
    with pytest.raises(ValueError, match='one class'):
        noisy_labels(np.zeros(2, int), 1, 0.1, rng)
