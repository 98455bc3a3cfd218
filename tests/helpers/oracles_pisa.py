"""Loops written from the text of the PISA paper, Python floats only."""


def iou_hlr(iou, labels, gt_ids):
    """Hierarchical local rank of each positive within its class."""
    local = [0] * len(iou)
    for gt in set(gt_ids):
        members = [i for i in range(len(iou)) if gt_ids[i] == gt]
        for rank, i in enumerate(sorted(members, key=lambda i: -iou[i])):
            local[i] = rank
    ranks = [0] * len(iou)
    for label in set(labels):
        members = [i for i in range(len(iou)) if labels[i] == label]
        ordered = sorted(members, key=lambda i: (local[i], -iou[i]))
        for rank, i in enumerate(ordered):
            ranks[i] = rank
    return ranks


def iou_hierarchical_weights(iou, labels, gt_ids, gamma, bias, count):
    ranks = iou_hlr(iou, labels, gt_ids)
    size = {label: labels.count(label) for label in labels}
    largest = max(size.values(), default=0)
    weights = []
    for rank, label in zip(ranks, labels, strict=True):
        n = largest if count == 'max' else size[label]
        weights.append(((1 - bias) * (n - rank) / n + bias) ** gamma)
    return weights


def box_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / area if area > 0 else 0.0


def nms_match(boxes, scores, image_ids, iou_thr):
    """Leader of each box: greedy, best score first."""
    left = sorted(range(len(boxes)), key=lambda i: -scores[i])
    leader = [0] * len(boxes)
    while left:
        best = left[0]
        group = [
            i
            for i in left
            if i == best
            or (
                image_ids[i] == image_ids[best]
                and box_iou(boxes[i], boxes[best]) > iou_thr
            )
        ]
        for i in group:
            leader[i] = best
        left = [i for i in left if i not in group]
    return leader


def score_hierarchical_weights(
    scores, boxes, image_ids, gamma, bias, score_thr, iou_thr
):
    ranked = [i for i in range(len(scores)) if scores[i] > score_thr]
    leader = nms_match(
        [boxes[i] for i in ranked],
        [scores[i] for i in ranked],
        [image_ids[i] for i in ranked],
        iou_thr,
    )
    local = {}
    for group in set(leader):
        members = [i for i, m in zip(ranked, leader, strict=True) if m == group]
        for rank, i in enumerate(sorted(members, key=lambda i: -scores[i])):
            local[i] = rank
    weights = [0.0] * len(scores)
    for image in set(image_ids):
        all_of_image = [i for i in range(len(scores)) if image_ids[i] == image]
        members = [i for i in ranked if image_ids[i] == image]
        members.sort(key=lambda i: (local[i], -scores[i]))
        n = len(all_of_image)
        for i in all_of_image:
            rank = members.index(i) if i in members else max(len(members) - 1, 0)
            weights[i] = ((1 - bias) * (n - rank) / n + bias) ** gamma
    return weights


def carl_weights(scores, k, bias):
    raw = [(bias + (1 - bias) * p) ** k for p in scores]
    return [w * len(raw) / sum(raw) for w in raw]
