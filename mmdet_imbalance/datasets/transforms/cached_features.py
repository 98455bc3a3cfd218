"""Cached features in the place of pixels, at both ends of a stock pipeline.

The dataset, its boxes and its random flips stay those of the config; no image is read.
Deviations: none.
"""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import InstanceData

from mmdet_imbalance.core.feature_cache import FeatureCache
from mmdet_imbalance.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageShape(BaseTransform):
    """Stands in for the loading of an image: black, in the size of the file's.

    Args:
        cache: folder of the cached features.
    """

    def __init__(self, cache: str) -> None:
        self.cache = FeatureCache(cache)

    def transform(self, results: dict) -> dict:
        """Set `img`, `img_shape` and `ori_shape`."""
        shape = self.cache.shapes(results['img_path'])['ori_shape']
        results['img'] = np.zeros((*shape, 3), dtype=np.uint8)
        results['img_shape'] = results['ori_shape'] = shape
        return results


@TRANSFORMS.register_module()
class AttachCachedFeatures(BaseTransform):
    """Replaces packed pixels by feature levels, and adds the proposals.

    Args:
        cache: folder of the cached features.
    """

    def __init__(self, cache: str) -> None:
        self.cache = FeatureCache(cache)

    def transform(self, results: dict) -> dict:
        """Look up the image as it is after the pipeline, mirrored or not."""
        sample = results['data_samples']
        image = (sample.img_path, bool(sample.metainfo.get('flip', False)))
        cached, found = self.cache.shapes(*image)['img_shape'], sample.img_shape[:2]
        if tuple(found) != cached:
            raise ValueError(
                f'{image[0]} has the size {tuple(found)} after the pipeline, its '
                f'cached features are those of {cached}: delete the cache'
            )
        proposals = self.cache.proposals(*image)
        sample.proposals = InstanceData(
            bboxes=proposals[:, :4].clone(),
            scores=proposals[:, 4].clone(),
            labels=torch.zeros(len(proposals), dtype=torch.long),
        )
        results['inputs'] = self.cache.features(*image)
        return results
