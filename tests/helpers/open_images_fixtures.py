"""Random Open Images data: trees with several parents, groups, verified labels."""

import numpy as np


def random_hierarchy(rng, num_classes, most_parents=2):
    """Parents of each class, and the tree as Open Images writes it.

    A class with two parents stands under both of them. Class 0 is the first top node.
    """
    parents = [[]]
    for c in range(1, num_classes):
        num = int(rng.integers(0, most_parents + 1)) if c > 1 else 1
        parents.append(sorted(rng.choice(c, min(num, c), replace=False).tolist()))

    def node(c):
        children = [node(k) for k in range(num_classes) if c in parents[k]]
        return {'LabelName': f'c{c}', **({'Subcategory': children} if children else {})}

    tops = [node(c) for c in range(num_classes) if not parents[c]]
    return parents, {'LabelName': 'root', 'Subcategory': tops}


def ancestors_by_search(parents):
    """[child, ancestor] by walking upwards, shape (C, C), bool, reflexive."""
    matrix = np.eye(len(parents), dtype=bool)
    for c in range(len(parents)):
        stack = [c]
        while stack:
            for parent in parents[stack.pop()]:
                if not matrix[c, parent]:
                    matrix[c, parent] = True
                    stack.append(parent)
    return matrix


def random_images(rng, num_images, num_classes, tie_steps=None, integers=True):
    """Images as dictionaries of arrays; boxes (x1, y1, x2, y2), not expanded.

    Of four or more classes the last has detections only, the one before only groups,
    the one before that no detection.
    """
    last = num_classes - 1
    images = []
    for _ in range(num_images):
        gt_box = _boxes(rng, int(rng.integers(0, 9)), integers)
        if len(gt_box) > 2 and rng.random() < 0.5:
            gt_box[1] = gt_box[0]
        gt_label = rng.integers(0, last, len(gt_box))
        is_group = (rng.random(len(gt_box)) < 0.25) | (gt_label == last - 1)
        gt_box[is_group, 2:] += 30
        det_box, det_label = _detections(rng, gt_box, gt_label, last, integers)
        score = rng.random(len(det_box))
        if tie_steps:
            score = np.ceil(score * tie_steps) / tie_steps
        verified = rng.permutation(num_classes)[: int(rng.integers(0, 4))]
        images.append(
            {
                'gt_box': gt_box,
                'gt_label': gt_label,
                'gt_is_group_of': is_group,
                'verified_label': verified,
                'verified_present': rng.random(len(verified)) < 0.5,
                'det_box': det_box,
                'det_label': det_label,
                'det_score': score.astype(np.float32),
            }
        )
    return images


def _boxes(rng, num, integers):
    corner = rng.uniform(0, 60, (num, 2))
    box = np.concatenate([corner, corner + rng.uniform(4, 40, (num, 2))], axis=1)
    return np.round(box) if integers else box


def _detections(rng, gt_box, gt_label, last, integers):
    parts, labels = [_boxes(rng, 4, integers)], [rng.integers(0, last + 1, 4)]
    for _ in range(3):
        moved = gt_box + rng.normal(0, 4, gt_box.shape)
        parts.append(np.round(moved) if integers else moved)
        labels.append(gt_label)
    # Inside of groups, without area, and twice the same.
    parts += [gt_box + np.array([2, 2, -2, -2]), gt_box[:1, [0, 1, 0, 3]], parts[1][:2]]
    labels += [gt_label, gt_label[:1], labels[1][:2]]
    box, label = np.concatenate(parts), np.concatenate(labels)
    keep = label != last - 2
    box[keep & (rng.random(len(box)) < 0.02), 2] -= 90
    keep &= (box[:, 0] <= box[:, 2]) & (box[:, 1] <= box[:, 3])
    return box[keep], label[keep]


def hostile_images(rng, num_images, num_classes, most_detections):
    """As `random_images`, with what real data seldom has.

    Equal boxes of one class and of several, images without boxes or detections,
    classes with only boxes, only detections or only groups, boxes beyond the image,
    overlaps of just the threshold, all scores equal.
    """
    kind = rng.choice(4, num_classes, p=[0.6, 0.15, 0.15, 0.1])
    kind[0] = 0
    with_boxes, with_detections = np.flatnonzero(kind != 2), np.flatnonzero(kind != 1)
    images = []
    for _ in range(num_images):
        on_grid, steps = rng.random() < 0.5, rng.choice([1, 3, 20, 100_000])
        num_gt = int(rng.integers(0, 12)) * int(rng.random() < 0.85)
        num_det = int(rng.integers(0, most_detections)) * int(rng.random() < 0.9)
        gt_box = _boxes(rng, num_gt, on_grid)
        gt_label = rng.choice(with_boxes, num_gt)
        if num_gt > 3:
            gt_box[1:3], gt_label[2] = gt_box[0], gt_label[0]
        is_group = (rng.random(num_gt) < 0.3) | (kind[gt_label] == 3)
        gt_box[is_group, 2:] += rng.integers(0, 40)
        det_box = _boxes(rng, num_det, on_grid)
        det_label = rng.choice(with_detections, num_det)
        if num_gt:
            source = rng.integers(0, num_gt, num_det)
            near = rng.random(num_det) < 0.7
            noise = rng.normal(0, 3, (num_det, 4)) * (rng.random((num_det, 1)) < 0.7)
            det_box[near] = (gt_box[source] + noise)[near]
            same = near & (rng.random(num_det) < 0.8) & (kind[gt_label[source]] != 1)
            det_label[same] = gt_label[source][same]
        det_box = np.round(det_box) if on_grid else det_box
        det_box[rng.random(num_det) < 0.1] -= 30
        flat = rng.random(num_det) < 0.05
        det_box[flat, 2] = det_box[flat, 0]
        # The official evaluator refuses boxes that end before they begin.
        det_box[:, 2:] = np.maximum(det_box[:, 2:], det_box[:, :2])
        verified = rng.permutation(num_classes)[: int(rng.integers(0, 6))]
        score = np.ceil(rng.random(num_det) * steps) / steps
        images.append(
            {
                'gt_box': gt_box,
                'gt_label': gt_label,
                'gt_is_group_of': is_group,
                'verified_label': verified,
                'verified_present': rng.random(len(verified)) < 0.5,
                'det_box': det_box.astype(np.float32).astype(np.float64),
                'det_label': det_label,
                'det_score': score.astype(np.float32),
            }
        )
    return images


def expand_images(images, upwards, downwards, expand_detections):
    """Expand as the official tool does, row by row; labels become class numbers.

    `upwards` and `downwards` map a class to the classes it becomes, itself first.
    """
    expanded = []
    for image in images:
        gt = [(i, c) for i, k in enumerate(image['gt_label']) for c in upwards(k)]
        det = [
            (i, c)
            for i, k in enumerate(image['det_label'])
            for c in (upwards(k) if expand_detections else [k])
        ]
        pairs = zip(image['verified_label'], image['verified_present'], strict=True)
        verified = [c for k, up in pairs for c in (upwards if up else downwards)(k)]
        gt_row, gt_label = np.array(gt, dtype=int).reshape(-1, 2).T
        det_row, det_label = np.array(det, dtype=int).reshape(-1, 2).T
        expanded.append(
            {
                'gt_box': image['gt_box'][gt_row],
                'gt_label': gt_label,
                'gt_is_group_of': image['gt_is_group_of'][gt_row],
                'verified': np.array(verified, dtype=int),
                'det_box': image['det_box'][det_row],
                'det_label': det_label,
                'det_score': image['det_score'][det_row],
            }
        )
    return expanded
