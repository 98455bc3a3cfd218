"""Class-aware selective loss in its own setting: image-level labels, partly annotated.

The counterpart, in minutes on two cores, of the tables of Ben-Baruch et al., CVPR 2022,
arXiv 2110.10955: a linear layer on pooled features of the frozen backbone learns which
classes an image shows, from annotations that were thinned out by FPC or RPA.  Hierarchy
files close the labels under their ancestors.

    python -m benchmarks.classification.partial_annotation train.json val.json \
        --images train-images --val-images val-images --seeds 5
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.classification.digits import mean_and_interval
from mmdet_imbalance.core.annotation_cuts import fixed_per_class, random_per_annotation
from mmdet_imbalance.core.annotation_files import read_annotation
from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.functional import class_aware_ignore, partial_asymmetric_loss

#: name, weight of the un-annotated, (gamma+, gamma-, gamma_u), top K
METHODS = {
    'ignore CE': (0.0, (0, 0, 0), 0),
    'negative CE': (1.0, (0, 0, 0), 0),
    'negative ASL': (1.0, (0, 1, 4), 0),
    'selective': (1.0, (0, 1, 4), 2),
    'selective, prior': (1.0, (0, 1, 4), 2),
}


class Split(NamedTuple):
    """Pooled features (I, D) and the classes that each image shows, bool (I, C)."""

    features: Tensor
    present: Tensor


@torch.no_grad()
def load_split(annotation: Path, images: Path, ancestors, names, backbone) -> Split:
    """Features and closed labels of all images of an annotation."""
    import cv2

    file = read_annotation(annotation)
    features = []
    for name in file.file_names:
        pixels = cv2.imread(str(images / name), cv2.IMREAD_COLOR_RGB)
        pixels = cv2.resize(pixels, (256, 256), interpolation=cv2.INTER_AREA)
        x = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() - 127) / 128
        pooled = [f.flatten(2) for f in backbone(x)]
        features.append(
            torch.cat([p.mean(2) for p in pooled] + [p.amax(2) for p in pooled], dim=1)
        )
    present = file.presence(~file.ignored, file.label)
    order = [file.class_names.index(name) for name in names]
    present = present[:, order].astype(float) @ ancestors > 0
    return Split(torch.cat(features), torch.from_numpy(present))


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """AP of each class, the mean precision at the positives; nan without positives."""
    order = scores.argsort(dim=0, descending=True, stable=True)
    hit = truth.gather(0, order).float()
    precision = hit.cumsum(0) / torch.arange(1, len(hit) + 1)[:, None]
    return (precision * hit).sum(0) / hit.sum(0)


def train(split: Split, target: Tensor, method: str, prior, seed: int, steps: int):
    """Linear layer trained by one method; returns the layer."""
    weight, gammas, top_k = METHODS[method]
    torch.manual_seed(seed)
    layer = torch.nn.Linear(split.features.size(1), target.size(1))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(target), (64,), generator=generator)
        logits = layer(split.features[rows])
        labels = target[rows]
        unann = torch.full_like(logits, weight)
        if method.startswith('selective'):
            use_prior = 'prior' in method
            ignored = class_aware_ignore(
                logits,
                labels,
                top_k,
                prior if use_prior else None,
                0.5 if use_prior else None,
            )
            unann = (~ignored).float()
        loss = partial_asymmetric_loss(logits, labels, *gammas, unann).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return layer


@torch.no_grad()
def normalised(train_split: Split, val_split: Split) -> tuple[Split, Split]:
    """Both splits with features of zero mean and unit variance in training."""
    mean = train_split.features.mean(0)
    std = train_split.features.std(0).clamp(min=1e-6)
    return tuple(
        s._replace(features=(s.features - mean) / std) for s in (train_split, val_split)
    )


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('train', type=Path, help='COCO JSON')
    parser.add_argument('val', type=Path, help='COCO JSON')
    parser.add_argument('--images', type=Path, required=True)
    parser.add_argument('--val-images', type=Path, required=True)
    parser.add_argument('--hierarchy', type=Path, help='tree in the Open Images form')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--fpc', type=int, nargs='*', default=[10, 40])
    parser.add_argument('--rpa', type=float, nargs='*', default=[0.5, 0.9])
    args = parser.parse_args(argv)

    from mmengine.logging import MMLogger

    from mmdet_imbalance.models.backbones.efficientnet_lite import EfficientNetLite

    # The host logs a line for each parameter that it loads.
    MMLogger.get_instance('partial_annotation', log_level='ERROR')
    names = read_annotation(args.train).class_names
    ancestors = np.eye(len(names))
    if args.hierarchy:
        hierarchy = ClassHierarchy.from_open_images_json(args.hierarchy)
        names = [*names, *hierarchy.inner_nodes_above(names)]
        ancestors = hierarchy.ancestor_matrix(names).astype(float)
    known = len(read_annotation(args.train).class_names)
    backbone = EfficientNetLite(out_indices=(3, 4))
    backbone.init_weights()
    backbone.eval()
    splits = [
        load_split(annotation, images, ancestors[:known], names[:known], backbone)
        for annotation, images in (
            (args.train, args.images),
            (args.val, args.val_images),
        )
    ]
    train_split, val_split = normalised(*splits)
    cuts = [('fpc', n) for n in args.fpc] + [('rpa', p) for p in args.rpa]
    print(
        f'mAP in percent over {len(names)} classes, mean of {args.seeds} seeds and the '
        'half-width of its 95 % interval'
    )
    print('| method | all annotated |' + ''.join(f' {k} {v:g} |' for k, v in cuts))
    print('|---|---|' + '---|' * len(cuts))
    correlations = {cut: [] for cut in cuts}
    for method in METHODS:
        cells = []
        for kind, value in [('all', 0), *cuts]:
            maps = []
            for seed in range(args.seeds):
                rng = np.random.default_rng(seed)
                present = train_split.present.numpy()
                annotated = {
                    'all': lambda p=present: np.ones_like(p),
                    'fpc': lambda p=present, v=value, r=rng: fixed_per_class(p, v, r),
                    'rpa': lambda p=present, v=value, r=rng: random_per_annotation(
                        p.shape, v, r
                    ),
                }[kind]()
                target = torch.from_numpy(np.where(annotated, present, -1)).to(
                    torch.int8
                )
                prior = None
                if 'prior' in method:
                    layer = train(
                        train_split, target, 'ignore CE', None, seed, args.steps
                    )
                    with torch.no_grad():
                        prior = layer(train_split.features).sigmoid().mean(0)
                    if kind != 'all':
                        truth = train_split.present.float().mean(0)
                        both = torch.stack([prior, truth])
                        correlations[kind, value].append(
                            torch.corrcoef(both)[0, 1].item()
                        )
                layer = train(train_split, target, method, prior, seed, args.steps)
                with torch.no_grad():
                    scores = layer(val_split.features)
                ap = average_precision(scores, val_split.present)
                maps.append(100.0 * ap.nanmean().item())
            mean, half = mean_and_interval(maps)
            cells.append(f' {mean:.2f} ± {half:.2f} |')
        print(f'| {method} |' + ''.join(cells), flush=True)
    print('correlation of the estimated prior with the true class frequency:')
    for (kind, value), found in correlations.items():
        print(f'  {kind} {value:g}: {np.mean(found):.3f}')


if __name__ == '__main__':
    main()
