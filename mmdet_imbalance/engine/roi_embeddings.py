"""What a box head's classifier sees of annotated boxes and of background.

Shapes: N RoIs of the dataset, D dimensions of the embedding, C foreground classes
(background is index C).
Deviations: none, this is plumbing.
"""

from collections.abc import Iterator

import numpy as np
import torch
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps
from torch import Tensor, nn

from mmdet_imbalance.models.losses.affinity import AffinityPredictor

#: A proposal that overlaps every object less than this is background.
MAX_BACKGROUND_IOU = 0.3


def classifier_of(model: nn.Module) -> nn.Module:
    """Last classification layer of a two-stage detector's box head.

    Raises:
        ValueError: no such layer, or several stages with one each.
    """
    head = getattr(getattr(model, 'roi_head', None), 'bbox_head', None)
    if not isinstance(getattr(head, 'fc_cls', None), nn.Module):
        raise ValueError(
            f'{type(model).__name__} has no single box head with a classifier '
            '`roi_head.bbox_head.fc_cls`: a dense detector embeds no RoIs, and a '
            'cascade has several heads'
        )
    return head.fc_cls


def prototypes_of(model: nn.Module, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Prototypes (M, D) and their classes (M,); of a linear layer, its rows.

    Raises:
        ValueError: a layer that is neither.
    """
    layer = classifier_of(model)
    if isinstance(layer, AffinityPredictor):
        return (
            layer.prototypes.detach().cpu().double().numpy(),
            layer.prototype_class.cpu().numpy(),
        )
    weight = getattr(layer, 'weight', None)
    if weight is None or weight.ndim != 2 or len(weight) - num_classes not in (0, 1):
        raise ValueError(
            f'{type(layer).__name__} is neither an AffinityPredictor nor a linear '
            'layer with a row for each class'
        )
    return weight.detach().cpu().double().numpy(), np.arange(len(weight))


@torch.no_grad()
def roi_embeddings(
    model: nn.Module, dataset, background_per_image: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, D) and labels (N,) of all annotated boxes and some background.

    Args:
        model: two-stage detector, in evaluation mode.
        dataset: in test mode: images may be scaled, not cropped or mirrored.
        background_per_image: best-scored proposals that overlap no object, an image.
    """
    embeddings, labels = [], []
    num_classes = model.roi_head.bbox_head.num_classes
    for item, boxes, classes in _samples(dataset, num_classes):
        data = model.data_preprocessor(
            dict(inputs=[item['inputs']], data_samples=[item['data_samples']]), False
        )
        (sample,) = data['data_samples']
        features = model.extract_feat(data['inputs'])
        scale = boxes.new_tensor(sample.scale_factor).repeat(2)
        boxes = (boxes * scale).to(features[0].device)
        rois = [boxes]
        if background_per_image:
            (found,) = model.rpn_head.predict(features, [sample], rescale=False)
            best = found.bboxes[found.scores.argsort(descending=True)]
            if len(boxes):
                overlap = bbox_overlaps(best, boxes).amax(dim=1)
                best = best[overlap < MAX_BACKGROUND_IOU]
            rois.append(best[:background_per_image])
        rois = torch.cat(rois)
        if not len(rois):
            continue
        embeddings.append(_embed(model, features, rois))
        labels.append(np.full(len(rois), num_classes))
        labels[-1][: len(classes)] = classes
    if not embeddings:
        raise ValueError('the dataset has no object to embed')
    return np.concatenate(embeddings), np.concatenate(labels)


def _samples(dataset, num_classes: int) -> Iterator[tuple[dict, Tensor, list[int]]]:
    """Items with boxes in the units of the file, and their labels."""
    for index in range(len(dataset)):
        instances = [
            instance
            for instance in dataset.get_data_info(index)['instances']
            if not instance.get('ignore_flag') and instance['bbox_label'] < num_classes
        ]
        boxes = torch.tensor([i['bbox'] for i in instances], dtype=torch.float32)
        yield (
            dataset[index],
            boxes.reshape(-1, 4),
            [i['bbox_label'] for i in instances],
        )


def _embed(model: nn.Module, features: tuple[Tensor, ...], boxes: Tensor) -> np.ndarray:
    """What the classifier compares with its prototypes, shape (N, D)."""
    seen = []
    layer = classifier_of(model)
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        model.roi_head._bbox_forward(features, bbox2roi([boxes]))
    finally:
        handle.remove()
    (x,) = seen
    if isinstance(layer, AffinityPredictor):
        x = layer.embed(x)
    return x.cpu().double().numpy()
