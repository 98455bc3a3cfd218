"""Merged facts claim nothing that is not true of every part."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.image_facts import FACT_KEYS, merge_image_facts

C = 4
labels = st.sets(st.integers(0, C - 1))


@st.composite
def images(draw):
    """True content, and facts that hold for it."""
    shown = draw(labels)
    known = draw(labels)
    unannotated = draw(labels) & shown
    return dict(
        shown=shown,
        unannotated=unannotated,
        verified_pos=sorted(shown & known),
        verified_neg=sorted(known - shown),
        # Where a class is verified, what is not annotated is admitted.
        not_exhaustive=sorted(unannotated & known),
    )


@settings(deadline=None, max_examples=300)
@given(st.lists(images(), min_size=1, max_size=4))
def test_what_is_claimed_of_the_mix_is_true(parts):
    facts = merge_image_facts(parts)
    shown = set().union(*(part['shown'] for part in parts))
    unannotated = set().union(*(part['unannotated'] for part in parts))
    # A class of which a part says nothing may be there without a box.
    for part in parts:
        known = {*part['verified_pos'], *part['verified_neg']}
        unannotated |= part['shown'] - known
    assert set(facts['verified_pos']) <= shown
    assert not set(facts['verified_neg']) & shown
    exhaustive = set(facts['verified_pos']) - set(facts['not_exhaustive'])
    assert not exhaustive & unannotated


@settings(deadline=None)
@given(st.lists(images(), min_size=1, max_size=4), st.randoms())
def test_order_is_irrelevant_and_one_part_is_itself(parts, random):
    facts = merge_image_facts(parts)
    random.shuffle(parts)
    assert merge_image_facts(parts) == facts
    alone = merge_image_facts(parts[:1])
    assert alone == {key: parts[0][key] for key in FACT_KEYS}
    assert merge_image_facts(parts + parts) == facts


def test_a_part_that_says_nothing_makes_everything_unsure():
    known = dict(verified_pos=[1], verified_neg=[2], not_exhaustive=[])
    assert merge_image_facts([known, {}]) == dict(
        verified_pos=[1], verified_neg=[], not_exhaustive=[1]
    )
    assert merge_image_facts([{}, {}]) == {}
