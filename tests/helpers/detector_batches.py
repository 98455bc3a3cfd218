"""Small detectors with ground truth, for tests of heads."""

import torch
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing.detectors import small_detector_cfg


def build_detector(kind, loss_cls, num_classes, change=None, seed=0):
    """A narrow stock detector; `change(model_cfg)` edits its config in place."""
    init_default_scope('mmdet')
    cfg = small_detector_cfg(kind, loss_cls, num_classes)
    if change is not None:
        change(cfg)
    torch.manual_seed(seed)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def batch(num_images, num_classes, multi_labels=False, size=64, seed=0, objects=3):
    """Images (B, 3, size, size) and data samples with random boxes and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(num_images, 3, size, size, generator=generator)
    samples = []
    for i in range(num_images):
        num = objects if isinstance(objects, int) else objects[i]
        corner = size * 0.5 * torch.rand(num, 2, generator=generator)
        extent = size * (0.2 + 0.3 * torch.rand(num, 2, generator=generator))
        labels = torch.randint(num_classes, (num,), generator=generator)
        instances = InstanceData(
            bboxes=torch.cat([corner, corner + extent], dim=1), labels=labels
        )
        if multi_labels:
            sets = torch.rand(num, num_classes, generator=generator) < 0.3
            sets[torch.arange(num), labels] = True
            instances.multi_labels = sets
        sample = DetDataSample(
            metainfo=dict(
                img_id=i,
                img_shape=(size, size),
                ori_shape=(size, size),
                pad_shape=(size, size),
                batch_input_shape=(size, size),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = instances
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
        samples.append(sample)
    return images, samples


def losses_of(model, images, samples, seed=1):
    """Losses of one step; samplers draw from the global generator, seeded here."""
    torch.manual_seed(seed)
    model.train()
    losses = model.loss(images, [sample.clone() for sample in samples])
    return losses


def total(losses):
    """Sum of what is trained on."""
    value = 0.0
    for name, loss in losses.items():
        if 'loss' in name:
            value = value + (sum(loss) if isinstance(loss, list) else loss)
    return value.sum()
