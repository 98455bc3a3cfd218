"""Draws each object once, with its whole label set.

The host draws a box and a text for each row: the labels of one object lie on top of
each other and none can be read.

Shapes: n rows, C classes; images are (H, W, 3) RGB, as in the host's visualisers.
"""

import numpy as np
import torch
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.palette import get_palette
from mmengine.structures import InstanceData

from mmdet_imbalance.registry import VISUALIZERS
from mmdet_imbalance.visualization.label_set_lines import (
    LabelLine,
    label_lines,
    rows_of_objects,
)

#: Height of a line of text over its font size.
LINE_SPACING = 1.45
#: Width of a letter over the height of a line, roughly.
WIDTH_OF_LETTER = 0.42


@VISUALIZERS.register_module()
class LabelSetVisualizer(DetLocalVisualizer):
    """The host's visualiser with one box an object, and its labels in a column.

    The most specific labels come first; labels that another one of the box implies
    are dimmed. The class tree is `ancestor_matrix` (or the host's `RELATION_MATRIX`) of
    the dataset's metainfo. Label sets are read from rows with the same box, and from
    `multi_labels` (n, C) where the instances carry it.

    Args:
        name: of the instance, as the host's manager wants it.
        *args: further arguments of the host's `DetLocalVisualizer`.
        same_object_iou: rows with boxes at this IoU or more are one object, in (0, 1].
        add_ancestors: write ancestors that are not among the rows, too.
        max_labels: at most so many lines a box; a last line says how many are missing.
        font_size: points, for every box; None for the host's, which follows the area.
        **kwargs: arguments of the host's `DetLocalVisualizer`.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        *args,
        same_object_iou: float = 0.9,
        add_ancestors: bool = True,
        max_labels: int = 8,
        font_size: int | None = None,
        **kwargs,
    ) -> None:
        if not 0 < same_object_iou <= 1:
            raise ValueError(
                f'`same_object_iou` must be in (0, 1], got {same_object_iou}'
            )
        if max_labels < 1:
            raise ValueError(f'`max_labels` must be at least 1, got {max_labels}')
        if font_size is not None and font_size < 1:
            raise ValueError(f'`font_size` must be at least 1 point, got {font_size}')
        super().__init__(name, *args, **kwargs)
        self.same_object_iou = same_object_iou
        self.add_ancestors = add_ancestors
        self.max_labels = max_labels
        self.font_size = font_size

    def objects_of(self, instances) -> list[tuple[np.ndarray, list[LabelLine]]]:
        """Box (4,) and lines of each object of ground truth or predictions."""
        boxes = _array(instances.bboxes).reshape(-1, 4)
        labels = _array(instances.labels).astype(np.int64)
        scores = _array(instances.scores) if 'scores' in instances else None
        sets = None
        if 'multi_labels' in instances:
            sets = [np.flatnonzero(row) for row in _array(instances.multi_labels)]
        ancestors = self.dataset_meta.get('ancestor_matrix')
        if ancestors is None:
            ancestors = self.dataset_meta.get('RELATION_MATRIX')
        found = []
        for rows in rows_of_objects(boxes, scores, self.same_object_iou):
            if sets is None:
                found_labels, found_scores = labels[rows], scores
                if scores is not None:
                    found_scores = scores[rows]
            else:
                # A score belongs to a row's label, not to the rest of its set.
                found_labels = np.concatenate([sets[row] for row in rows])
                found_scores = None
            lines = label_lines(
                found_labels.tolist(), found_scores, ancestors, self.add_ancestors
            )
            found.append((boxes[rows[0]], lines))
        return found

    def draw_instances(self, image: np.ndarray, instances) -> np.ndarray:
        """Picture (H, W, 3) RGB with ground truth or predictions drawn into it."""
        meta = self.dataset_meta
        return self._draw_instances(
            image, instances, meta.get('classes'), meta.get('palette')
        )

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: list[str] | None,
        palette: list[tuple] | None,
    ) -> np.ndarray:
        """Draw objects; called by the host for ground truth and for predictions."""
        if 'masks' in instances and len(instances.labels):
            masks = InstanceData(masks=instances.masks, labels=instances.labels)
            image = super()._draw_instances(image, masks, classes, palette)
        self.set_image(image)
        if 'bboxes' not in instances or not len(instances.bboxes):
            return self.get_image()
        objects = [pair for pair in self.objects_of(instances) if pair[1]]
        num_classes = 1 + max(line.label for _, lines in objects for line in lines)
        if classes is not None:
            num_classes = max(num_classes, len(classes))
        colours = get_palette(
            palette if self.bbox_color is None else self.bbox_color, num_classes
        )
        for box, lines in objects:
            self.draw_bboxes(
                torch.as_tensor(box)[None],
                edge_colors=[tuple(colours[lines[0].label])],
                alpha=self.alpha,
                line_widths=self.line_width,
            )
        # Texts last, so that each can keep clear of all boxes and of earlier texts.
        taken = [box for box, _ in objects]
        for box, lines in objects:
            colour = tuple(colours[lines[0].label])
            taken.append(self._draw_lines(box, lines, classes, colour, taken))
        return self.get_image()

    def _draw_lines(self, box, lines, classes, colour, taken) -> np.ndarray:
        """Write the lines of an object; returns the rectangle (4,) they take."""
        texts = [(_text(line, classes), line.is_dimmed) for line in lines]
        if len(texts) > self.max_labels:
            missing = len(texts) - self.max_labels + 1
            texts = [*texts[: self.max_labels - 1], (f'and {missing} more', True)]
        size = self.font_size
        if size is None:
            # Half to full size, as the host scales with the square root of the area.
            side = float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 0.0)))
            size = round(float(np.clip(13 * side / 173, 6.5, 13.0)))
        step = size * LINE_SPACING * self.fig_save.get_dpi() / 72
        longest = max(len(text) for text, _ in texts)
        block = np.array([longest * step * WIDTH_OF_LETTER, len(texts) * step])
        corner = place_text(
            box, block, (self.width, self.height), taken, self.line_width
        )
        for number, (text, is_dimmed) in enumerate(texts):
            self.draw_texts(
                text,
                torch.tensor([corner[0], corner[1] + number * step]),
                colors=[(150, 150, 150) if is_dimmed else colour],
                font_sizes=size,
                bboxes=[
                    {
                        'facecolor': 'black',
                        'alpha': 0.35 if is_dimmed else 0.75,
                        'pad': 0.7,
                        'edgecolor': 'none',
                    }
                ],
            )
        return np.concatenate([corner, corner + block])


def place_text(
    box: np.ndarray,
    block: np.ndarray,
    image_size: tuple[float, float],
    taken: list[np.ndarray],
    gap: float,
) -> np.ndarray:
    """Upper left corner (2,) of a block of text for a box.

    In the box's own corner where it hides at most a quarter of it, else right of it,
    below, left or above: the place within the image that covers least of what is
    taken. Where none is within the image: the box's corner.

    Args:
        box: x1, y1, x2, y2, pixels.
        block: width and height of the text.
        image_size: width and height.
        taken: rectangles (4,) that should stay visible; `box` may be among them.
        gap: distance to the box, pixels.
    """
    box = np.asarray(box, dtype=np.float64)
    (x1, y1, x2, y2), (width, height) = box, block
    inside = box[:2] + gap
    if 4 * width * height <= (x2 - x1) * (y2 - y1) and width <= x2 - x1:
        return inside
    places = np.array(
        [
            (x2 + gap, y1),
            (x1, y2 + gap),
            (x1 - gap - width, y1),
            (x1, y1 - gap - height),
        ]
    )
    fits = (places >= 0).all(axis=1) & (places + block <= image_size).all(axis=1)
    if not fits.any():
        return inside
    ends = places + block
    hidden = np.zeros(len(places))
    for other in taken:
        common = np.minimum(ends, other[2:]) - np.maximum(places, other[:2])
        hidden += np.clip(common, 0, None).prod(axis=1)
    return places[np.where(fits, hidden, np.inf).argmin()]


def _text(line: LabelLine, classes) -> str:
    name = f'class {line.label}' if classes is None else classes[line.label]
    return name if line.score is None else f'{name}: {100 * line.score:.1f}'


def _array(values) -> np.ndarray:
    values = getattr(values, 'tensor', values)
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)
