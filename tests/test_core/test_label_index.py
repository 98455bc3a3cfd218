"""The label index behaves as the list of lists that it stands for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.label_index import LabelIndex

rows = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=5), max_size=7
)


def build(images):
    return LabelIndex.from_lists(
        [[label for label, _ in image] for image in images],
        [[flag for _, flag in image] for image in images],
    )


def as_lists(index):
    return [
        list(
            zip(
                index.labels[a:b].tolist(),
                index.ignored[a:b].tolist(),
                strict=True,
            )
        )
        for a, b in zip(index.image_ptr, index.image_ptr[1:], strict=False)
    ]


@settings(deadline=None)
@given(rows)
def test_round_trip_and_distinct_classes(images):
    index = build(images)
    assert len(index) == index.num_images == len(images)
    assert as_lists(index) == images
    ptr, classes = index.image_classes()
    for image, a, b in zip(images, ptr, ptr[1:], strict=False):
        assert classes[a:b].tolist() == sorted({c for c, flag in image if not flag})


@settings(deadline=None)
@given(rows, st.data())
def test_select_and_concatenate_are_those_of_lists(images, data):
    index = build(images)
    chosen = []
    if images:
        places = st.integers(-len(images), len(images) - 1)
        chosen = data.draw(st.lists(places, max_size=9))
    assert as_lists(index.select(chosen)) == [images[i] for i in chosen]
    joined = LabelIndex.concatenate([index, build(images[::-1]), index.select([])])
    assert as_lists(joined) == images + images[::-1]


def test_objects_survive_select_and_meet_an_index_without_them():
    with_objects = LabelIndex([0, 2, 3], [4, 1, 2], [False] * 3, [0, 0, 0])
    without = LabelIndex.from_lists([[3, 3]])
    joined = LabelIndex.concatenate([with_objects, without]).select([2, 0])
    assert joined.labels.tolist() == [3, 3, 4, 1]
    assert joined.objects.tolist() == [0, 1, 0, 0]


def test_label_outside_the_class_list_names_its_image():
    index = LabelIndex.from_lists([[0], [], [1, 7]])
    index.check_labels(['a'] * 8)
    with pytest.raises(ValueError, match=r'image 2 bears label 7.*3 classes'):
        index.check_labels(['a', 'b', 'c'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (([0, 2], [1], [False]), 'image_ptr'),
        (([0, 2, 1], [1], [False]), 'image_ptr'),
        (([0, 1], [1], [False, True]), 'ignored'),
        (([0, 1], [-1], [False]), 'not be negative'),
        (([0, 1], [0.5], [False]), 'integers'),
        (([0, 1], [1], [False], [0, 1]), 'objects'),
    ],
)
def test_impossible_arrays_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelIndex(*arguments)


def test_selecting_an_absent_image_is_refused():
    with pytest.raises(IndexError, match='holds 2, but there are 2 images'):
        LabelIndex.from_lists([[0], [1]]).select([0, 2])


def test_no_images_at_all():
    index = LabelIndex.concatenate([])
    assert len(index) == 0
    assert index.image_classes()[0].tolist() == [0]
    assert np.array_equal(index.select([]).labels, [])
