"""Transform that gives an image its mined negatives as proposals.

They travel as the host's `proposals`, which its `ProposalBroadcaster` moves along with
resizes and flips; `mmdet_imbalance.MinedNegativesRoIHead` finds them in the sample.

Shapes: n mined boxes of an image.
"""

import numpy as np
from mmcv.transforms import BaseTransform

from mmdet_imbalance.evaluation.hard_negatives import read_hard_negatives
from mmdet_imbalance.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadHardNegatives(BaseTransform):
    """Put mined boxes into `proposals`; an image without any gets an empty list.

    Args:
        ann_file: file of `tools/mine_hard_negatives.py`.
    """

    def __init__(self, ann_file: str) -> None:
        self.ann_file = ann_file
        self.boxes = read_hard_negatives(ann_file)

    def transform(self, results: dict) -> dict:
        """Add `proposals`, shape (n, 4), and `proposals_scores`, shape (n,)."""
        boxes = self.boxes.get(int(results['img_id']), np.zeros((0, 4), np.float32))
        # A plain array: the host's packing knows no box type here.
        results['proposals'] = boxes.copy()
        results['proposals_scores'] = np.ones(len(boxes), np.float32)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ann_file={self.ann_file!r})'
