"""Everything that a report says about one detector, as arrays.

Shapes: C classes, O objects, E error types. Deviations: none (measures are explained
where they are computed).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from mmdet_imbalance.evaluation.boxes import Detections, GroundTruth, expand_rows
from mmdet_imbalance.evaluation.coco_ap import (
    CocoAP,
    coco_average_precision,
    summarize,
)
from mmdet_imbalance.evaluation.error_types import Errors, find_errors
from mmdet_imbalance.evaluation.freq_groups import GROUP_NAMES
from mmdet_imbalance.evaluation.matching import (
    Matches,
    match_detections,
    overlapping_pairs,
)
from mmdet_imbalance.evaluation.multi_label_ap import (
    LabelScores,
    concurrency_figures,
    concurrent_pairs,
    label_scores,
)
from mmdet_imbalance.evaluation.results_file import ClassFacts
from mmdet_imbalance.evaluation.score_calibration import Calibration, calibration


@dataclass
class Analysis:
    """Figures of one detector; computed when they are asked for.

    Attributes:
        name: of the detector.
        gt: ground truth.
        detections: its detections.
        facts: training counts and ancestors, as far as known.
    """

    name: str
    gt: GroundTruth
    detections: Detections
    facts: ClassFacts

    @cached_property
    def groups(self) -> Mapping[str, np.ndarray]:
        """Classes by the name of their group, 'all' first; masks, shape (C,)."""
        groups = {'all': np.ones(self.gt.num_classes, dtype=bool)}
        if self.gt.freq_group is not None:
            for key, name in GROUP_NAMES.items():
                if (self.gt.freq_group == key).any():
                    groups[name] = self.gt.freq_group == key
        return groups

    @cached_property
    def result(self) -> CocoAP:
        """COCO evaluation."""
        return coco_average_precision(self.gt, self.detections)

    @cached_property
    def summary(self) -> dict[str, float]:
        """AP and its parts, concurrency of labels."""
        figures = summarize(self.result, self.gt.freq_group)
        concurrent = concurrency_figures(self.label_scores)
        return figures | (concurrent if concurrent['concurrent_objects'] else {})

    @cached_property
    def matches(self) -> Matches:
        """Who found whom at IoU 0.5."""
        return match_detections(self.gt, self.detections)

    @cached_property
    def errors(self) -> Errors:
        """Errors by type."""
        return find_errors(self.gt, self.detections)

    @cached_property
    def label_scores(self) -> LabelScores:
        """Score of every label of every object."""
        return label_scores(self.gt, self.detections)

    @cached_property
    def num_boxes(self) -> np.ndarray:
        """Evaluated objects of each class, shape (C,)."""
        counted = ~(self.gt.is_crowd | self.gt.is_group_of)
        return np.bincount(self.gt.labels[counted], minlength=self.gt.num_classes)

    @cached_property
    def frequency(self) -> np.ndarray:
        """Training images of each class, else evaluated objects, shape (C,)."""
        known = self.facts.img_count
        return self.num_boxes if known is None else known

    def reliability(self, classes: np.ndarray) -> Calibration:
        """Do the scores of some classes (mask, shape (C,)) say how often they hold?"""
        rows = ~self.matches.ignored & classes[self.detections.labels]
        return calibration(
            np.clip(self.detections.scores[rows], 0, 1), self.matches.is_true[rows]
        )

    def class_table(self) -> tuple[list[str], list[list]]:
        """Header and a row for each class, most frequent first."""
        header = ['class', 'group', 'train images', 'objects', 'AP', 'AP50', 'AP75']
        header += ['AR', 'false positives', 'missed']
        group = self.gt.freq_group
        recall = self.result.per_class_recall()
        false = self.errors.count[:-1].sum(axis=0)
        columns = [
            self.gt.class_names,
            [''] * self.gt.num_classes if group is None else group.tolist(),
            [None] * self.gt.num_classes
            if self.facts.img_count is None
            else self.facts.img_count.tolist(),
            self.num_boxes.tolist(),
            self.result.per_class().tolist(),
            self.result.per_class(0.5).tolist(),
            self.result.per_class(0.75).tolist(),
            recall.tolist(),
            false.tolist(),
            self.errors.count[-1].tolist(),
        ]
        order = np.argsort(-self.frequency, kind='stable')
        rows = list(zip(*columns, strict=True))
        return header, [list(rows[k]) for k in order]

    @cached_property
    def confusion(self) -> np.ndarray:
        """How objects are called: fraction by own and by called class, shape (C, C).

        An object is called by the class of the best-scored detection that overlaps it
        by IoU 0.5; a call by any label of the object, or by an ancestor of one, is
        right and counts for its own class. Rows sum to at most 1, the rest is missed.
        """
        gt, found = self.gt, self.detections
        rows = np.flatnonzero(~(gt.is_crowd | gt.is_group_of))
        det, box, iou = overlapping_pairs(
            found.image_index, found.boxes, gt.image_index, gt.boxes, rows
        )
        near = iou >= 0.5
        det, box = det[near], box[near]
        # Of equal scores the first detection speaks.
        order = np.lexsort((-det, found.scores[det], box))
        last = np.append(np.diff(box[order]) != 0, True) if len(order) else order
        det, box = det[order][last], box[order][last]
        called = np.where(
            self._means_the_object(found.labels[det], box),
            gt.labels[box],
            found.labels[det],
        )
        table = np.zeros((gt.num_classes, gt.num_classes))
        np.add.at(table, (gt.labels[box], called), 1)
        return table / np.maximum(self.num_boxes, 1)[:, None]

    def _means_the_object(self, called: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Whether a class is among the labels of a box and their ancestors, (K,)."""
        gt, num_classes = self.gt, self.gt.num_classes
        place = np.column_stack([gt.image_index, gt.boxes])
        _, which = np.unique(place, axis=0, return_inverse=True)
        which = which.reshape(-1)
        matrix = self.facts.ancestor_matrix
        matrix = np.eye(num_classes, dtype=bool) if matrix is None else matrix
        # Keys and no table of objects and classes: that would not fit for LVIS.
        source, implied, _ = expand_rows(gt.labels, matrix)
        right = np.unique(which[source] * num_classes + implied)
        return np.isin(which[box] * num_classes + called, right)

    def confused_pairs(self, most: int = 30) -> tuple[list[str], list[list]]:
        """Header and rows of what is most often called by a wrong name."""
        header = ['object', 'called', 'fraction', 'objects', 'relation']
        wrong = self.confusion * ~np.eye(self.gt.num_classes, dtype=bool)
        order = np.argsort(-(wrong * self.num_boxes[:, None]).ravel(), kind='stable')
        rows = []
        for k in order[:most]:
            i, j = divmod(int(k), self.gt.num_classes)
            if not wrong[i, j]:
                break
            names = self.gt.class_names[i], self.gt.class_names[j]
            number = round(wrong[i, j] * self.num_boxes[i])
            rows.append([*names, wrong[i, j], number, self.relation(i, j)])
        return header, rows

    def relation(self, a: int, b: int) -> str:
        """How two classes stand to each other."""
        matrix = self.facts.ancestor_matrix
        if self.concurrent[a, b]:
            return 'concurrent'
        if matrix is None:
            return ''
        if matrix[a, b] or matrix[b, a]:
            return 'ancestor'
        return 'sibling' if (self._parent[a] & self._parent[b]).any() else ''

    @cached_property
    def _parent(self) -> np.ndarray:
        """[child, parent], shape (C, C): ancestors that no other one stands below."""
        matrix = self.facts.ancestor_matrix
        strict = matrix & ~np.eye(len(matrix), dtype=bool)
        # In floats, whose product is computed in blocks.
        steps = strict.astype(np.float32)
        return strict & ~(steps @ steps > 0)

    @cached_property
    def concurrent(self) -> np.ndarray:
        """[a, b]: fraction of the objects of a that bear b, too; shape (C, C)."""
        scores = self.label_scores
        shape = (scores.num_objects, self.gt.num_classes)
        ones = np.ones(len(scores.labels))
        member = csr_array((ones, (scores.object_index, scores.labels)), shape)
        together = (member.T @ member).toarray()
        rate = together / np.maximum(together.diagonal(), 1)[:, None]
        np.fill_diagonal(rate, 0)
        return rate

    @cached_property
    def co_occurrence(self) -> np.ndarray:
        """[a, b]: fraction of the images with a that have b, too; shape (C, C)."""
        has = np.zeros((len(self.gt.images), self.gt.num_classes), dtype=np.float32)
        has[self.gt.image_index, self.gt.labels] = 1
        together = has.T @ has
        together = together.astype(np.float64)
        rate = together / np.maximum(together.diagonal(), 1)[:, None]
        np.fill_diagonal(rate, 0)
        return rate

    def concurrent_table(self, most: int = 30) -> tuple[list[str], list[list]]:
        """Header and rows of labels on one object, and what they leave each other."""
        header = ['label', 'other label', 'objects', 'fraction', 'score left']
        scores = self.label_scores
        number = np.bincount(scores.labels, minlength=self.gt.num_classes)
        both = np.rint(self.concurrent * number[:, None]).astype(int)
        left = concurrent_pairs(scores, self.gt.num_classes)
        rows = []
        for k in np.argsort(-both.ravel(), kind='stable')[:most]:
            a, b = divmod(int(k), self.gt.num_classes)
            if not both[a, b]:
                break
            names = self.gt.class_names[a], self.gt.class_names[b]
            figures = float(self.concurrent[a, b]), float(left[a, b])
            rows.append([*names, int(both[a, b]), *figures])
        return header, rows

    def telling_images(self, most: int = 4) -> list[tuple[str, int, int]]:
        """Images worth a look: the best and the worst of the rarest classes.

        Returns:
            Rows (what it shows, class, image index).
        """
        gt, found = self.gt, self.detections
        with_objects = np.flatnonzero(self.num_boxes > 0)
        rarest = with_objects[np.argsort(self.frequency[with_objects], kind='stable')]
        rows = []
        for label in rarest[:most]:
            own = np.flatnonzero(self.matches.is_true & (found.labels == label))
            if len(own):
                best = own[np.argmax(found.scores[own])]
                rows.append(('found best', int(label), int(found.image_index[best])))
            missed = np.flatnonzero(self.errors.missed & (gt.labels == label))
            wrong = np.flatnonzero((self.errors.kind >= 0) & (found.labels == label))
            if len(missed):
                images, number = np.unique(gt.image_index[missed], return_counts=True)
                worst = int(images[np.argmax(number)])
                rows.append((f'{number.max()} missed', int(label), worst))
            elif len(wrong):
                worst = wrong[np.argmax(found.scores[wrong])]
                rows.append(('worst error', int(label), int(found.image_index[worst])))
        return rows
