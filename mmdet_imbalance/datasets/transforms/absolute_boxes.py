"""Boxes as fractions become pixels once the size of the image is known."""

from typing import Any

import numpy as np
from mmengine.dataset import Compose


class AbsoluteBoxes(Compose):
    """A pipeline that scales boxes right after the step that loads the image.

    Records with `boxes_are_normalized` have fractions in `instances`; they are scaled
    by `ori_shape`, the size of the decoded image before any resizing (turned by its
    EXIF orientation, as decoded), which the loading step sets.
    """

    @classmethod
    def around(cls, pipeline: Compose) -> 'AbsoluteBoxes':
        """The same steps with the scaling between them."""
        return cls(list(pipeline.transforms))

    def __call__(self, data: dict) -> dict | None:
        """Run all steps; None where one of them gives the image up."""
        for step in self.transforms:
            data = step(data)
            if data is None:
                return None
            if isinstance(data, dict) and data.get('boxes_are_normalized'):
                _scale(data)
        return data


def _scale(results: dict[str, Any]) -> None:
    if 'ori_shape' not in results:
        return
    height, width = results['ori_shape'][:2]
    scale = np.array([width, height, width, height], dtype=np.float64)
    for instance in results.get('instances', ()):
        instance['bbox'] = (np.asarray(instance['bbox']) * scale).tolist()
    if 'gt_bboxes' in results:
        raise ValueError(
            'boxes were loaded before the image: put the step that loads the image '
            'before LoadAnnotations, or give the dataset an `image_sizes_file`'
        )
    results.setdefault('height', height)
    results.setdefault('width', width)
    results['boxes_are_normalized'] = False
