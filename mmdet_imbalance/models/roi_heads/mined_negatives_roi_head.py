"""RoI head that adds mined negatives to the proposals of an image.

Oksuz et al., TPAMI 2020, https://arxiv.org/abs/1909.00169, section 4.1 (bootstrapping).

Shapes: n proposals, m mined boxes of an image.
Deviations: none.
"""

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_imbalance.models.roi_heads.imbalance_roi_head import ImbalanceRoIHead
from mmdet_imbalance.registry import MODELS


@MODELS.register_module()
class MinedNegativesRoIHead(ImbalanceRoIHead):
    """`ImbalanceRoIHead` whose proposals include the mined boxes of the image.

    The samples bring them as `proposals` (`mmdet_imbalance.LoadHardNegatives` in the
    pipeline); `mmdet_imbalance.MinedNegativeSampler` prefers them.
    """

    def loss(self, x: tuple[Tensor], rpn_results_list, batch_data_samples) -> dict:
        """Losses of a batch; arguments and result as in the host."""
        joined = [
            with_mined_boxes(proposals, sample)
            for proposals, sample in zip(
                rpn_results_list, batch_data_samples, strict=True
            )
        ]
        return super().loss(x, joined, batch_data_samples)


def with_mined_boxes(proposals: InstanceData, sample) -> InstanceData:
    """Proposals followed by the mined boxes, marked in the field `mined`, (n + m,).

    Raises:
        ValueError: the sample brings none.
    """
    if 'proposals' not in sample:
        raise ValueError(
            "the samples bring no mined boxes: put dict(type='mmdet_imbalance."
            "LoadHardNegatives', ann_file=...) into the pipeline, and the geometric "
            'transforms into a ProposalBroadcaster'
        )
    boxes = proposals.bboxes
    mined = sample.proposals.bboxes.to(boxes)
    # A crop or a flip may have left nothing of a box.
    mined = mined[(mined[:, 2:] > mined[:, :2]).all(dim=1)]
    flags = torch.zeros(len(boxes) + len(mined), dtype=torch.bool, device=boxes.device)
    flags[len(boxes) :] = True
    return InstanceData(bboxes=torch.cat([boxes, mined]), mined=flags)
