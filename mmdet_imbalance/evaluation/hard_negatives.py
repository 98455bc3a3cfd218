"""High-confidence false positives, mined offline for the next round of training.

The bootstrap of Sung and Poggio, TPAMI 1998, as Oksuz et al., "Imbalance Problems in
Object Detection: A Review", TPAMI 2020, https://arxiv.org/abs/1909.00169, section 4.1,
sum it up: what a trained model takes for objects becomes explicit negatives.

Shapes: D detections.  Boxes are (x, y, w, h) as all over `evaluation`; (x1, y1, x2, y2)
in the file and where it is read.
Deviations: only detections that touch no object count; confusions between classes are
for the loss.
"""

import json
from pathlib import Path

import numpy as np

from mmdet_imbalance.core.atomic_write import write_text_atomically
from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth
from mmdet_imbalance.evaluation.overlap import best_overlap

FILE_FORMAT = 'mmdet_imbalance.hard_negatives'
FILE_VERSION = 1


def hard_negatives(
    gt: GroundTruth,
    detections: Detections,
    score_thr: float = 0.5,
    iou_thr: float = 0.3,
    max_per_image: int = 20,
) -> Detections:
    """Detections that are sure and wrong.

    Args:
        gt: ground truth of the training images.
        detections: of the trained model.
        score_thr: lowest score.
        iou_thr: an annotated box of any class that overlaps more is a reason to leave a
            detection out, and so is a crowd or group-of box that covers half of it.
        max_per_image: the best-scored of an image.

    Returns:
        By image, highest scores first.
    """
    for name, value in (('score_thr', score_thr), ('iou_thr', iou_thr)):
        if not 0 <= value <= 1:
            raise ValueError(f'`{name}` must lie in [0, 1], got {value!r}')
    if max_per_image < 1:
        raise ValueError(f'`max_per_image` must be at least 1, got {max_per_image!r}')
    has_area = (detections.boxes[:, 2:] > 0).all(axis=1)
    sure = (detections.scores >= score_thr) & has_area
    found = detections.take(np.flatnonzero(sure))
    found = found.take(np.lexsort((-found.scores, found.image_index)))
    ignored = gt.is_crowd | gt.is_group_of
    touches = np.zeros(len(found), bool)
    for rows, over_own_area, most in ((~ignored, False, iou_thr), (ignored, True, 0.5)):
        _, overlap = best_overlap(
            found.image_index,
            corners(found.boxes),
            gt.image_index[rows],
            corners(gt.boxes[rows]),
            over_own_area,
        )
        touches |= overlap > most
    found = found.take(np.flatnonzero(~touches))
    first = np.searchsorted(found.image_index, found.image_index)
    return found.take(np.flatnonzero(np.arange(len(found)) - first < max_per_image))


def corners(boxes: np.ndarray) -> np.ndarray:
    """(x1, y1, x2, y2) of (x, y, w, h), shape (D, 4)."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def write_hard_negatives(path: str | Path, gt: GroundTruth, found: Detections) -> None:
    """Write boxes (x1, y1, x2, y2 in pixels) and scores of each image as JSON."""
    ids = gt.image_ids()
    images = {}
    for image, box, score in zip(
        ids[found.image_index].tolist(),
        corners(found.boxes).round(2).tolist(),
        found.scores.tolist(),
        strict=True,
    ):
        entry = images.setdefault(str(image), {'bboxes': [], 'scores': []})
        entry['bboxes'].append(box)
        entry['scores'].append(score)
    content = {'format': FILE_FORMAT, 'version': FILE_VERSION, 'images': images}
    write_text_atomically(path, json.dumps(content, allow_nan=False))


def read_hard_negatives(path: str | Path) -> dict[int, np.ndarray]:
    """Boxes of each image id, shape (n, 4), float32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file that `tools/mine_hard_negatives.py` wrote.
    """
    hint = 'write one with tools/mine_hard_negatives.py'
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise FileNotFoundError(f'hard negatives not found: {path}; {hint}') from None
    except ValueError as error:
        raise ValueError(f'{path} is no valid JSON: {error}') from None
    if not isinstance(content, dict) or content.get('format') != FILE_FORMAT:
        raise ValueError(f'{path} is no file of hard negatives: {hint}')
    if content.get('version') != FILE_VERSION:
        raise ValueError(
            f'{path} has version {content.get("version")!r}, expected {FILE_VERSION}'
        )
    try:
        return {
            int(image): np.array(entry['bboxes'], np.float32).reshape(-1, 4)
            for image, entry in content['images'].items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: broken entry of hard negatives: {error!r}') from None
