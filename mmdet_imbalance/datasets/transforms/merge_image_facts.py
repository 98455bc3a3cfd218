"""Keeps the facts of an image true when other images are mixed into it."""

from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS as HOST_TRANSFORMS

from mmdet_imbalance.core.image_facts import FACT_KEYS, merge_image_facts
from mmdet_imbalance.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MergeImageFacts(BaseTransform):
    """Runs a transform that mixes images and merges what is known of them.

    The host's Mosaic, MixUp, CopyPaste (inside MultiImageMixDataset), CachedMosaic and
    CachedMixUp keep the facts of the first image, where a class that is verified
    absent may then be shown. Write
    `dict(type='mmdet_imbalance.MergeImageFacts', transform=dict(type='Mosaic', ...))`;
    in `skip_type_keys` its own type stands for the inner one.

    A transform of MultiImageMixDataset that chooses not to mix is merged all the same:
    less is claimed than known, never more.

    Args:
        transform: config of the mixing transform.
    """

    def __init__(self, transform: dict) -> None:
        self.inner = HOST_TRANSFORMS.build(transform)
        if not hasattr(self.inner, 'get_indexes'):
            raise ValueError(
                f'`transform` must be one that mixes images, {transform["type"]} has '
                'no `get_indexes`'
            )
        self._parts: list[dict] | None = None
        if hasattr(self.inner, 'results_cache'):
            # It picks from images that it kept; note which.
            self._pick = self.inner.get_indexes
            self.inner.get_indexes = self._note_picked
        else:
            # MultiImageMixDataset asks for positions where it finds this attribute.
            self.get_indexes = self._positions

    def _positions(self, dataset: Any) -> list[int]:
        found = self.inner.get_indexes(dataset)
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        # The host's CopyPaste draws one position too far once in a while.
        return [position % len(dataset) for position in found]

    def _note_picked(self, kept: list[dict]) -> Any:
        found = self._pick(kept)
        places = found if isinstance(found, (list, tuple)) else [found]
        self._parts = [_facts(kept[place]) for place in places]
        return found

    def transform(self, results: dict) -> dict | None:
        """Mix, then merge."""
        parts = [_facts(results)]
        self._parts = None
        mixed = self.inner(results)
        others = self._parts
        if others is None:
            others = [_facts(part) for part in results.get('mix_results', ())]
        if mixed is not None and others:
            mixed.update(merge_image_facts(parts + others))
        return mixed

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.inner!r})'


def _facts(results: dict) -> dict[str, list[int]]:
    return {key: list(results[key]) for key in FACT_KEYS if key in results}
