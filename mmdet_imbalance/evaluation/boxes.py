"""Columns of ground truth and detections: what every evaluator here works on.

Plain arrays in place of one dictionary a box, so that a validation set of millions
of detections stays a few hundred megabytes and every step is one numpy call.

Shapes: I images, M annotated boxes, D detections, C classes. Boxes are (x, y, w, h)
in pixels of the original image. Deviations: none (this is no method of a paper).
"""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class GroundTruth:
    """Annotated boxes of a dataset.

    Attributes:
        class_names: names, C of them.
        category_ids: COCO category id of each class, shape (C,), int64.
        images: COCO image entries, sorted by `id`.
        image_index: index into `images`, shape (M,), int64.
        labels: class of each box, shape (M,), int64, values in [0, C).
        boxes: shape (M, 4), float64.
        areas: area in pixels that decides small, medium or large, shape (M,).
        is_crowd: boxes that are neither found nor missed, shape (M,), bool.
        is_group_of: one box round many objects (Open Images), shape (M,), bool.
        freq_group: 'r', 'c' or 'f' of each class as the annotation states it, shape
            (C,); None where it states nothing.
        unlisted: classes that the annotation does not list at all.
    """

    class_names: tuple[str, ...]
    category_ids: np.ndarray
    images: list[dict]
    image_index: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    is_group_of: np.ndarray
    freq_group: np.ndarray | None = None
    unlisted: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    def image_ids(self) -> np.ndarray:
        """COCO id of each image, shape (I,), ascending."""
        return np.array([image['id'] for image in self.images], dtype=np.int64)

    def expand(self, ancestor_matrix: np.ndarray) -> 'GroundTruth':
        """Give every box all ancestors of its class; one object counts once a class.

        A row that only the expansion made is dropped where the same box already
        has that class (two labels of one object share ancestors).

        Args:
            ancestor_matrix: [child, ancestor], shape (C, C), bool, reflexive.
        """
        source, labels, is_new = expand_rows(self.labels, ancestor_matrix)
        keys = np.column_stack(
            [self.image_index[source], labels, self.is_crowd[source]]
        ).astype(np.float64)
        keys = np.column_stack([keys, self.boxes[source]])
        # The annotated row comes first within its equals and is never dropped.
        first = _first_of_equals(keys, priority=is_new)
        keep = first | ~is_new
        return replace(self.select_boxes(source[keep]), labels=labels[keep])

    def select_boxes(self, rows: np.ndarray) -> 'GroundTruth':
        """Ground truth of all images with some of its boxes, by index or mask."""
        return replace(
            self,
            image_index=self.image_index[rows],
            labels=self.labels[rows],
            boxes=self.boxes[rows],
            areas=self.areas[rows],
            is_crowd=self.is_crowd[rows],
            is_group_of=self.is_group_of[rows],
        )

    def select_images(self, index: np.ndarray) -> 'GroundTruth':
        """Ground truth of some images only; `index` ascending, shape (K,)."""
        new_index = np.full(len(self.images), -1, dtype=np.int64)
        new_index[index] = np.arange(len(index))
        kept = self.select_boxes(new_index[self.image_index] >= 0)
        return replace(
            kept,
            images=[self.images[i] for i in index],
            image_index=new_index[kept.image_index],
        )


@dataclass(frozen=True)
class Detections:
    """Detected boxes, in the order that breaks ties of equal scores.

    Attributes:
        image_index: index into the images of the ground truth, shape (D,), int64.
        labels: class of each box, shape (D,), int64, values in [0, C).
        boxes: shape (D, 4), float64.
        scores: shape (D,), float64.
    """

    image_index: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> 'Detections':
        """Rows by index or mask."""
        return Detections(
            self.image_index[rows],
            self.labels[rows],
            self.boxes[rows],
            self.scores[rows],
        )

    def expand(self, ancestor_matrix: np.ndarray) -> 'Detections':
        """Give every detection all ancestors of its class at the same score.

        Of equal boxes with one class in one image only the best score stays.

        Args:
            ancestor_matrix: [child, ancestor], shape (C, C), bool, reflexive.
        """
        source, labels, is_new = expand_rows(self.labels, ancestor_matrix)
        keys = np.column_stack(
            [self.image_index[source], labels, self.boxes[source]]
        ).astype(np.float64)
        first = _first_of_equals(keys, priority=-self.scores[source])
        # Boxes that the detector itself gave twice are its own business.
        keep = first | ~is_new
        return replace(self.take(source[keep]), labels=labels[keep])


def expand_rows(
    labels: np.ndarray, ancestor_matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows after each label got its ancestors.

    Args:
        labels: shape (M,).
        ancestor_matrix: [child, ancestor], shape (C, C), bool, reflexive.

    Returns:
        Row each result comes from, ascending (K,); its label (K,); True where it is
        an ancestor and not the label itself (K,).
    """
    matrix = np.asarray(ancestor_matrix, dtype=bool)
    child, ancestor = np.nonzero(matrix)
    start = np.searchsorted(child, np.arange(len(matrix) + 1))
    num = np.diff(start)[labels]
    source = np.repeat(np.arange(len(labels)), num)
    offset = np.arange(len(source)) - np.repeat(np.cumsum(num) - num, num)
    expanded = ancestor[start[labels][source] + offset]
    return source, expanded, expanded != labels[source]


def _first_of_equals(keys: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """True for the row of lowest priority value among rows with equal keys."""
    first = np.zeros(len(keys), dtype=bool)
    if len(keys):
        order = np.lexsort((np.arange(len(keys)), priority, *keys.T))
        rows = keys[order]
        new = np.ones(len(keys), dtype=bool)
        new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
        first[order[new]] = True
    return first


def check_ancestor_matrix(matrix: object, num_classes: int) -> np.ndarray:
    """Bool array of shape (C, C), reflexive, or ValueError that says what is wrong."""
    array = np.asarray(matrix)
    if array.shape != (num_classes, num_classes):
        raise ValueError(
            f'`ancestor_matrix` must have shape ({num_classes}, {num_classes}) for '
            f'{num_classes} classes, got {array.shape}'
        )
    array = array.astype(bool)
    if not array.diagonal().all():
        missing = np.flatnonzero(~array.diagonal())[:5].tolist()
        raise ValueError(
            '`ancestor_matrix` must be reflexive (every class is its own ancestor); '
            f'the diagonal is False at classes {missing}'
        )
    return array
