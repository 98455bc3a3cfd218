"""Class-aware selective loss in its own setting: image-level labels, partly annotated.

The counterpart, in minutes on two cores, of the tables of Ben-Baruch et al., CVPR 2022,
arXiv 2110.10955: a linear layer on pooled features of the frozen backbone learns which
classes an image shows, from annotations that were thinned out by FPC or RPA.  Hierarchy
files close the labels under their ancestors; a cut then takes the classes one by one.

    python -m benchmarks.classification.partial_annotation train.json val.json \
        --images train-images --val-images val-images --seeds 5
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.classification.digits import (
    average_precision,
    print_head,
    print_row,
)
from benchmarks.classification.long_tailed import differences
from mmdet_imbalance.core.annotation_cuts import fixed_per_class, random_per_annotation
from mmdet_imbalance.core.annotation_files import read_annotation
from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.functional import class_aware_ignore, partial_asymmetric_loss

#: name -> weight of the un-annotated, (gamma+, gamma-, gamma_u), top K.  The exponents
#: of the last three are those of the authors' command for RPA.
METHODS = {
    'ignore CE': (0.0, (0, 0, 0), 0),
    'negative CE': (1.0, (0, 0, 0), 0),
    'negative ASL': (1.0, (0, 4, 4), 0),
    'negative, exponents apart': (1.0, (0, 1, 4), 0),
    'selective': (1.0, (0, 1, 4), 2),
    'selective, prior': (1.0, (0, 1, 4), 2),
}
PRIOR_THR = 0.5


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


def train(
    split: Split,
    target: Tensor,
    method: str,
    prior: Tensor | None,
    seed: int,
    steps: int,
) -> torch.nn.Linear:
    """Linear layer trained by one method."""
    weight, gammas, top_k = METHODS[method]
    torch.manual_seed(seed)
    layer = torch.nn.Linear(split.features.size(1), target.size(1))
    optimizer = torch.optim.AdamW(
        layer.parameters(), lr=2e-3, weight_decay=1e-2, fused=True
    )
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
                PRIOR_THR if use_prior else None,
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


def cut_target(present: Tensor, kind: str, value: float, seed: int) -> Tensor:
    """Labels of which some are un-annotated, int8 (I, C)."""
    rng = np.random.default_rng(seed)
    if kind == 'fpc':
        annotated = fixed_per_class(present.numpy(), int(value), rng)
    else:
        # Nothing is dropped of what is annotated whole.
        annotated = random_per_annotation(present.shape, value, rng)
    return torch.from_numpy(np.where(annotated, present, -1)).to(torch.int8)


def run_cut(splits, kind: str, value: float, seeds: int, steps: int):
    """AP of each class by method, and the priors, a tensor a seed each."""
    train_split, val_split = splits
    found: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    priors = []
    for seed in range(seeds):
        target = cut_target(train_split.present, kind, value, seed)
        prior = None
        for method in METHODS:
            layer = train(train_split, target, method, prior, seed, steps)
            with torch.no_grad():
                scores = layer(val_split.features)
                if method == 'ignore CE':
                    prior = layer(train_split.features).sigmoid().mean(0)
            found[method].append(100.0 * average_precision(scores, val_split.present))
        priors.append(prior)
    return found, priors


def print_classes(names, cut: str, found, priors, truth: Tensor) -> None:
    """AP of each class by method, its prior and how often it really is there."""
    print(
        f'\n{cut}: AP of each class, means over seeds; {PRIOR_THR:g} < prior: ignored'
    )
    print_head('class', 'true frequency', 'prior', *found)
    prior = torch.stack(priors).mean(0)
    for c in truth.argsort(descending=True, stable=True).tolist():
        cells = ''.join(
            f' {torch.stack(each).mean(0)[c]:.1f} |' for each in found.values()
        )
        print(f'| {names[c]} | {truth[c]:.3f} | {prior[c]:.3f} |' + cells)
    both = torch.stack([prior, truth])
    error = (prior - truth).abs()
    print(
        f'prior and true frequency: correlation {torch.corrcoef(both)[0, 1]:.3f}, mean '
        f'error {error.mean():.3f}, largest {error.max():.3f} '
        f'({names[int(error.argmax())]}); ignored by the prior: '
        f'{int((prior > PRIOR_THR).sum())} of {len(names)}'
    )


def main(argv=None) -> None:
    """Print the tables."""
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
    known = len(names)
    ancestors = np.eye(known)
    if args.hierarchy:
        hierarchy = ClassHierarchy.from_open_images_json(args.hierarchy)
        names = [*names, *hierarchy.inner_nodes_above(names)]
        ancestors = hierarchy.ancestor_matrix(names).astype(float)
    backbone = EfficientNetLite(out_indices=(3, 4))
    backbone.init_weights()
    backbone.eval()
    splits = normalised(
        *(
            load_split(annotation, images, ancestors[:known], names[:known], backbone)
            for annotation, images in (
                (args.train, args.images),
                (args.val, args.val_images),
            )
        )
    )
    cuts = [('rpa', 0.0), *(('fpc', n) for n in args.fpc)]
    cuts += [('rpa', p) for p in args.rpa]
    heads = ['all annotated', *(f'{kind} {value:g}' for kind, value in cuts[1:])]
    results = [run_cut(splits, *cut, args.seeds, args.steps) for cut in cuts]
    maps = {
        method: [[ap.nanmean().item() for ap in found[method]] for found, _ in results]
        for method in METHODS
    }
    print(
        f'mAP in percent over {len(names)} classes, mean of {args.seeds} seeds and the '
        'half-width of its 95 % interval'
    )
    print_head('method', *heads)
    for method in METHODS:
        print_row(method, maps[method])
    print('\nless negative CE, same seeds; * where the interval leaves out 0')
    print_head('method', *heads)
    for method in METHODS:
        if method != 'negative CE':
            print_row(method, differences(maps[method], maps['negative CE']), '+')
    truth = splits[0].present.float().mean(0)
    for head, (found, priors) in zip(heads[1:], results[1:], strict=True):
        print_classes(names, head, found, priors, truth)


if __name__ == '__main__':
    main()
