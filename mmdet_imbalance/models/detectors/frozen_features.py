"""Faster R-CNN of which only the box head runs, on features made before.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
ICLR 2020, arXiv 1910.09217.

Shapes: B images, L feature levels, C foreground classes.
Deviations: none; the parameters are named as in the host's detector, so that its
checkpoints are those of the host's.
"""

import torch
import torch.nn.functional as F
from mmdet.models.detectors import FasterRCNN
from mmdet.models.utils.misc import samplelist_boxtype2tensor
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmdet_imbalance.registry import MODELS

FROZEN = ('backbone', 'neck', 'rpn_head')


@MODELS.register_module()
class FeatureStacker(BaseDataPreprocessor):
    """Makes a batch of feature levels; the counterpart of the host's for pixels."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack each level of the images, (B, channels, height, width).

        Smaller images are continued with their last row and column: a RoI layer sees
        at the border of an image what it would see if the image were alone.
        """
        data = self.cast_data(data)
        samplelist_boxtype2tensor(data['data_samples'])
        levels = tuple(_stack(level) for level in data['inputs'])
        return dict(inputs=levels, data_samples=data['data_samples'])


def _stack(images: list[Tensor]) -> Tensor:
    height = max(image.shape[-2] for image in images)
    width = max(image.shape[-1] for image in images)
    padded = [
        F.pad(
            image.float(),
            (0, width - image.shape[-1], 0, height - image.shape[-2]),
            mode='replicate',
        )
        for image in images
    ]
    return torch.stack(padded)


@MODELS.register_module()
class FrozenFeaturesFasterRCNN(FasterRCNN):
    """The host's Faster R-CNN fed with features and proposals.

    Args:
        classifier_only: train the last classification layer alone, on frozen fully
            connected layers and with frozen box regression (cRT as published).
        **kwargs: arguments of the host's `FasterRCNN`.
    """

    def __init__(self, classifier_only: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        for name in FROZEN:
            getattr(self, name).requires_grad_(False)
        if classifier_only:
            for name, parameter in self.roi_head.named_parameters():
                parameter.requires_grad_('fc_cls' in name)

    @property
    def with_rpn(self) -> bool:
        """False: the host then takes the proposals of the data samples."""
        return False

    def extract_feat(self, batch_inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The features that came in."""
        return batch_inputs
