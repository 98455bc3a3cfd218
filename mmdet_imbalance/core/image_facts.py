"""What is known of whole images, and of an image that is mixed from several.

A class may be verified present in an image, verified absent, or unknown; where it is
present, its objects may not all be annotated ("not exhaustive").
"""

from collections.abc import Mapping, Sequence

#: Labels in [0, C), in a record and in the metainfo of a sample.
FACT_KEYS = ('verified_pos', 'verified_neg', 'not_exhaustive')


def merge_image_facts(parts: Sequence[Mapping]) -> dict[str, list[int]]:
    """Facts of an image that shows parts of several images, on the safe side.

    A class is verified absent only if it is in every part. It is verified present if it
    is in any part; but where another part says nothing of it, that part may show
    objects of it that nobody annotated, so it is not exhaustive.

    Args:
        parts: records of the images; those without any fact say nothing.

    Returns:
        Sorted labels by `FACT_KEYS`; empty where no part has a fact.
    """
    if not any(key in part for part in parts for key in FACT_KEYS):
        return {}
    present, absent, open_ended = (
        [set(part.get(key, ())) for part in parts] for key in FACT_KEYS
    )
    anywhere = set().union(*present)
    unsure = set().union(*open_ended)
    for known in map(set.union, present, absent):
        unsure |= anywhere - known
    return {
        'verified_pos': sorted(anywhere),
        'verified_neg': sorted(set.intersection(*absent) - anywhere),
        'not_exhaustive': sorted(unsure),
    }
