"""Detectors of which only the last head runs, on features made before.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
ICLR 2020, arXiv 1910.09217.

Shapes: B images, L feature levels, C foreground classes.
Deviations: none; the parameters are named as in the host's detectors, so that their
checkpoints are those of the host's.
"""

import torch
import torch.nn.functional as F
from mmdet.models.detectors import FasterRCNN, SingleStageDetector
from mmdet.models.utils.misc import samplelist_boxtype2tensor
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from mmdet_imbalance.engine.head_weights import last_layer
from mmdet_imbalance.registry import MODELS

FROZEN = ('backbone', 'neck', 'rpn_head')
PADDINGS = ('replicate', 'constant')


@MODELS.register_module()
class FeatureStacker(BaseDataPreprocessor):
    """Makes a batch of feature levels; the counterpart of the host's for pixels.

    Args:
        padding: how smaller images are continued. 'replicate' repeats their last row
            and column: a RoI layer sees at the border of an image what it would see
            if the image were alone. 'constant' writes zeros, as a convolution of a
            dense head does around an image that is alone.
        pad_size_divisor: that of the host's for pixels; a dense head takes the anchors
            inside of the padded image.
    """

    def __init__(self, padding: str = 'replicate', pad_size_divisor: int = 1) -> None:
        super().__init__()
        if padding not in PADDINGS:
            raise ValueError(f'`padding` must be one of {PADDINGS}, got {padding!r}')
        self.padding, self.pad_size_divisor = padding, pad_size_divisor

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack each level of the images, (B, channels, height, width)."""
        data = self.cast_data(data)
        samples = data['data_samples']
        samplelist_boxtype2tensor(samples)
        padded = [self._padded(sample.img_shape) for sample in samples]
        batch_shape = tuple(max(sides) for sides in zip(*padded, strict=True))
        for sample, shape in zip(samples, padded, strict=True):
            sample.set_metainfo(dict(pad_shape=shape, batch_input_shape=batch_shape))
        levels = tuple(self._stack(level) for level in data['inputs'])
        return dict(inputs=levels, data_samples=samples)

    def _padded(self, shape: tuple[int, ...]) -> tuple[int, int]:
        divisor = self.pad_size_divisor
        return tuple(-(-side // divisor) * divisor for side in shape[:2])

    def _stack(self, images: list[Tensor]) -> Tensor:
        height = max(image.shape[-2] for image in images)
        width = max(image.shape[-1] for image in images)
        padded = [
            F.pad(
                image.float(),
                (0, width - image.shape[-1], 0, height - image.shape[-2]),
                mode=self.padding,
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
        _freeze(self, self.roi_head if classifier_only else None)

    @property
    def with_rpn(self) -> bool:
        """False: the host then takes the proposals of the data samples."""
        return False

    def extract_feat(self, batch_inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The features that came in."""
        return batch_inputs


@MODELS.register_module()
class FrozenFeaturesSingleStage(SingleStageDetector):
    """The host's single-stage detector (RetinaNet, GFL, ATSS, ...) fed with features.

    Args:
        classifier_only: train the last classification layer alone: the convolutions
            before it and the box regression are frozen.
        **kwargs: arguments of the host's `SingleStageDetector`.
    """

    def __init__(self, classifier_only: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.classifier_only = classifier_only
        _freeze(self, self.bbox_head if classifier_only else None)

    def train(self, mode: bool = True) -> nn.Module:
        """As in any module, but frozen norm layers keep their statistics."""
        super().train(mode)
        if self.classifier_only:
            self.bbox_head.eval()
            last_layer(self).module.train(mode)
        return self

    def extract_feat(self, batch_inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The features that came in."""
        return batch_inputs


def _freeze(model: nn.Module, head: nn.Module | None) -> None:
    """Freeze what features come from, and all of `head` but the last layer."""
    for name in FROZEN:
        if hasattr(model, name):
            getattr(model, name).requires_grad_(False)
    if head is not None:
        head.requires_grad_(False)
        last_layer(model).module.requires_grad_(True)
