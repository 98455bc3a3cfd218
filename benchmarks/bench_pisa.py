"""Time of ISR-P and ISR-N beside the host's.

    python benchmarks/bench_pisa.py [--rois 512] [--images 4] [--classes 80]

prints one table from one run, after showing that both give the same weights on two
images. On a CPU the time is that of the process with one thread. ISR-P is the whole of
it: decoding, IoU, ranks, rescaling.
"""

import argparse
from dataclasses import replace

import torch
from clock import clock
from mmcv.ops import nms_match as host_nms_match
from mmdet.models.losses.pisa_loss import isr_p
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.samplers import SamplingResult
from torch import nn

from mmdet_imbalance.core.pisa import nms_match
from mmdet_imbalance.models.regions import Regions, unique_gt_ids
from mmdet_imbalance.models.task_modules import IoUHierarchicalWeight


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rois', type=int, default=512)
    parser.add_argument('--images', type=int, default=4)
    parser.add_argument('--classes', type=int, default=80)
    parser.add_argument('--objects', type=int, default=20)
    parser.add_argument('--positive', type=float, default=0.25)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--device', default='cpu')
    return parser.parse_args()


class CrossEntropy(nn.Module):
    """What both sides call for the loss of each row."""

    def forward(self, logits, labels, weight=None, reduction_override='none'):
        return nn.functional.cross_entropy(logits, labels, reduction='none')


def sampled_image(args, generator):
    """Sampling result of an image whose positives lie near its objects."""
    corner = 600 * torch.rand(args.objects, 2, generator=generator)
    size = 30 + 200 * torch.rand(args.objects, 2, generator=generator)
    gt_boxes = torch.cat([corner, corner + size], dim=1)
    gt_labels = torch.randint(args.classes, (args.objects,), generator=generator)
    num_pos = int(args.rois * args.positive)
    assigned = torch.randint(args.objects, (num_pos,), generator=generator)
    # Within the objects' size: a proposal always has an area.
    jitter = 0.1 * torch.randn(num_pos, 4, generator=generator).clamp(-3, 3)
    jitter = jitter * size[assigned].repeat(1, 2)
    away = torch.tensor([[0.0, 0, 50, 50]]).expand(args.rois - num_pos, 4)
    boxes = torch.cat([gt_boxes[assigned] + jitter, away])
    gt_inds = torch.zeros(args.rois, dtype=torch.long)
    labels = torch.full((args.rois,), -1)
    gt_inds[:num_pos], labels[:num_pos] = assigned + 1, gt_labels[assigned]
    every = torch.arange(args.rois)
    result = SamplingResult(
        every[:num_pos],
        every[num_pos:],
        boxes,
        gt_boxes,
        AssignResult(args.objects, gt_inds, None, labels),
        torch.zeros(args.rois, dtype=torch.uint8),
    )
    return result.to(args.device)


def make_case(args, num_images):
    """Everything both sides need, for so many images."""
    generator = torch.Generator().manual_seed(0)
    results = [sampled_image(args, generator) for _ in range(num_images)]
    num = num_images * args.rois
    cls_score = torch.randn(num, args.classes + 1, generator=generator)
    bbox_pred = 0.1 * torch.randn(num, 4 * args.classes, generator=generator)
    coder = DeltaXYWHBBoxCoder()
    labels, targets, rois = [], [], []
    for i, result in enumerate(results):
        num_neg = len(result.neg_inds)
        background = result.pos_gt_labels.new_full((num_neg,), args.classes)
        labels.append(torch.cat([result.pos_gt_labels, background]))
        encoded = coder.encode(result.pos_priors, result.pos_gt_bboxes)
        targets.append(torch.cat([encoded, encoded.new_zeros(num_neg, 4)]))
        boxes = result.priors
        rois.append(torch.cat([boxes.new_full((len(boxes), 1), i), boxes], dim=1))
    labels, targets, rois = (torch.cat(each) for each in (labels, targets, rois))
    regions = Regions(
        cls_score=cls_score.to(args.device),
        bbox_pred=bbox_pred.to(args.device),
        labels=labels,
        label_weights=torch.ones_like(labels, dtype=torch.float),
        priors=rois[:, 1:],
        image_ids=rois[:, 0].long(),
        pos_inds=(labels < args.classes).nonzero().squeeze(1),
        gt_ids=unique_gt_ids(
            [result.pos_assigned_gt_inds for result in results],
            [args.objects] * num_images,
        ),
        pos_gt_boxes=torch.cat([result.pos_gt_bboxes for result in results]),
        multi_labels=None,
        img_metas=[{}] * num_images,
        num_classes=args.classes,
        loss_cls=CrossEntropy(),
        loss_bbox=nn.Identity(),
        bbox_coder=coder,
        class_agnostic=False,
    )
    return regions, targets, rois, results


def ours(regions, rows):
    # A new object, because regions remember their IoU. The loss of the rows is the one
    # that the head trains on; the host computes it a second time for the weights.
    return IoUHierarchicalWeight()(replace(regions), rows)


def host(regions, targets, rois, results):
    bbox_targets = (
        regions.labels,
        regions.label_weights.clone(),
        targets,
        torch.ones_like(targets),
    )
    weights = isr_p(
        regions.cls_score,
        regions.bbox_pred,
        bbox_targets,
        rois,
        results,
        regions.loss_cls,
        regions.bbox_coder,
        num_class=regions.num_classes,
    )
    return weights[1]


def best_ms(functions, rounds, device, calls=10):
    """Best round of some calls in a row, sides alternating: milliseconds a call."""
    seconds = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            start = clock(device)
            for _ in range(calls):
                function()
            if round_:  # The first round warms up.
                seconds[name].append((clock(device) - start) / calls)
    return {name: 1e3 * min(each) for name, each in seconds.items()}


def compare(title, seconds):
    mine, theirs = seconds['ours'], seconds['host']
    print(f'{title:52}{mine:9.2f} ms{theirs:9.2f} ms{theirs / mine:8.1f}x')


def main():
    args = parse_args()
    if args.device == 'cpu':
        torch.set_num_threads(1)
    regions, *rest = make_case(args, 2)
    rows = regions.loss_cls(regions.cls_score, regions.labels)
    gap = (ours(regions, rows) - host(regions, *rest)).abs().max().item()
    print(f'largest difference of a weight on two images: {gap:.1e}')
    if gap > 1e-3:
        raise SystemExit('ISR-P does not agree with the host on two images')
    regions, *rest = make_case(args, args.images)
    rows = regions.loss_cls(regions.cls_score, regions.labels)
    gap = (ours(regions, rows) - host(regions, *rest)).abs().max().item()
    print(f'on {args.images} images, where the host confuses objects: {gap:.1e}')
    print(f'{"":52}{"ours":>12}{"host":>12}{"gain":>9}')
    functions = dict(
        ours=lambda: ours(regions, rows),
        host=lambda: host(regions, *rest),
        decoding=lambda: regions.boxes(regions.pos_inds, regions.pos_labels),
    )
    seconds = best_ms(functions, args.rounds, args.device)
    compare(
        f'ISR-P, {args.rois} RoIs x {args.images} images, {args.classes} classes',
        seconds,
    )
    print(
        f'Of ours, {seconds["decoding"]:.2f} ms are the decoding of boxes by the '
        "host's coder, the rest some sixty\nsmall operations that cost their calls: as "
        "much for few objects as for many, while the host's\nloops over classes and "
        'objects are short where there are few.'
    )
    generator = torch.Generator().manual_seed(1)
    num = args.rois * args.images
    boxes = rest[1][:, 1:] + 20 * torch.randn(num, 4, generator=generator).to(
        args.device
    )
    scores = torch.rand(num, generator=generator).to(args.device)
    image_ids = regions.image_ids
    functions = dict(
        ours=lambda: nms_match(boxes, scores, image_ids, iou_thr=0.5),
        host=lambda: [
            host_nms_match(
                torch.cat([boxes, scores[:, None]], dim=1)[image_ids == i], 0.5
            )
            for i in range(args.images)
        ],
    )
    compare(
        f'NMS-match of ISR-N, {num} boxes',
        best_ms(functions, args.rounds, args.device),
    )


if __name__ == '__main__':
    main()
