"""Images of a report: annotated and detected boxes with their label sets.

Shapes: boxes are (x, y, w, h) in pixels of the image.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmdet_imbalance.evaluation.analysis import Analysis


def annotated_image(
    analysis: Analysis,
    image_index: int,
    pixels: np.ndarray,
    score_thr: float = 0.3,
    most: int = 12,
) -> Figure:
    """An image with annotated (solid) and detected (dashed) boxes and label sets.

    A text lies where it hides no other text; where no place is free it is left out, the
    annotation's going before the detections'.

    Args:
        analysis: whose boxes to draw.
        image_index: index of the image.
        pixels: RGB, shape (H, W, 3), uint8.
        score_thr: detections below it are left out.
        most: of the detections the best so many are drawn for every annotated object,
            and at least so many.
    """
    height, width = pixels.shape[:2]
    scale = 4.9 / max(height, width)
    figure = Figure(figsize=(width * scale, height * scale))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels)
    axes.set_axis_off()
    gt, found = analysis.gt, analysis.detections
    texts = []
    rows = np.flatnonzero(gt.image_index == image_index)
    objects = _label_sets(gt.boxes[rows], gt.labels[rows])
    for box, labels in objects:
        _draw(axes, box, '#009e73', '-')
        texts.append((box, ', '.join(_specific_first(analysis, labels)), '#009e73'))
    rows = np.flatnonzero(found.image_index == image_index)
    rows = rows[found.scores[rows] >= score_thr]
    rows = rows[np.argsort(-found.scores[rows], kind='stable')]
    for row in rows[: max(most, 2 * len(objects))]:
        name = gt.class_names[found.labels[row]]
        colour = '#0072b2' if analysis.matches.is_true[row] else '#cc3311'
        _draw(axes, found.boxes[row], colour, '--')
        texts.append((found.boxes[row], f'{name} {found.scores[row]:.2f}', colour))
    # Six points in pixels of the image; a letter is about half as wide as high.
    line = 8.5 / 72 / scale
    taken: list[np.ndarray] = []
    for box, text, colour in texts:
        place = _free_place(box, len(text) * 0.5 * line, line, (width, height), taken)
        if place is not None:
            taken.append(place)
            _write(axes, place, text, colour)
    return figure


def _free_place(box, text_width, line, size, taken):
    """Rectangle (x1, y1, x2, y2) for a text in the image, or None where all is taken.

    At the upper edge of the box, then at the lower one, outside before inside.
    """
    x, y, _, h = box
    left = min(max(0.0, x), max(0.0, size[0] - text_width))
    for top in (y - line, y + h, y, y + h - line):
        place = np.array([left, top, left + text_width, top + line])
        inside = top >= 0 and top + line <= size[1]
        if inside and not any(
            (np.minimum(place[2:], other[2:]) > np.maximum(place[:2], other[:2])).all()
            for other in taken
        ):
            return place
    return None


def _label_sets(boxes, labels):
    if not len(boxes):
        return []
    unique, which = np.unique(boxes, axis=0, return_inverse=True)
    return [(box, labels[which.ravel() == k]) for k, box in enumerate(unique)]


def _specific_first(analysis, labels):
    matrix = analysis.facts.ancestor_matrix
    if matrix is not None:
        labels = sorted(labels, key=lambda label: -matrix[label].sum())
    return [analysis.gt.class_names[label] for label in labels]


def _draw(axes, box, colour, style):
    x, y, w, h = box
    axes.add_patch(
        Rectangle(
            (x, y), w, h, fill=False, color=colour, linestyle=style, linewidth=1.2
        )
    )


def _write(axes, place, text, colour):
    axes.text(
        place[0],
        (place[1] + place[3]) / 2,
        text,
        fontsize=6,
        color='white',
        verticalalignment='center',
        clip_on=True,
        bbox={'facecolor': colour, 'alpha': 0.8, 'pad': 0.6, 'linewidth': 0},
    )
