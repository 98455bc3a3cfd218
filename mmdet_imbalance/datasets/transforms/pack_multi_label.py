"""Packs label sets: from one int an object to a primary label and all its labels.

Shapes: G ground-truth objects, C classes.
"""

from collections.abc import Sequence

import numpy as np
from mmdet.datasets.transforms import PackDetInputs

from mmdet_imbalance.core.image_facts import FACT_KEYS
from mmdet_imbalance.core.label_set_table import LabelSetTable
from mmdet_imbalance.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackMultiLabelDetInputs(PackDetInputs):
    """The host's pack step, and `multi_labels` (G, C) beside `labels` (G,).

    `labels` are the primary (most specific) labels, in [0, C). `multi_labels` are the
    explicit labels of each object; ancestors are added by the head or the loss. Where
    the records have no label sets and `num_classes` is not given, nothing is added:
    the heads then take the primary label for the whole set.

    Args:
        meta_keys: the host's; the facts of the image (`FACT_KEYS`) are packed besides.
        num_classes: number C of classes; None takes it from the records' sets.
        label_sets: sets for datasets whose records do not bring them, such as
            `metainfo['label_sets']` of a dataset: id C + k is the k-th, primary first.
    """

    mapping_table = PackDetInputs.mapping_table | {'gt_multi_labels': 'multi_labels'}

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'flip_direction',
        ),
        num_classes: int | None = None,
        label_sets: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(tuple(dict.fromkeys((*meta_keys, *FACT_KEYS))))
        if label_sets is not None and num_classes is None:
            raise ValueError('`label_sets` needs `num_classes`')
        self.num_classes = num_classes
        self._table = None
        if num_classes is not None:
            self._table = LabelSetTable(num_classes, label_sets or ())

    def transform(self, results: dict) -> dict:
        """Decode, then pack as the host does."""
        table = results.get('label_sets', self._table)
        if table is not None and 'gt_bboxes_labels' in results:
            ids = np.asarray(results['gt_bboxes_labels'])
            results = dict(results)
            results['gt_bboxes_labels'] = table.primary(ids)
            results['gt_multi_labels'] = table.multi_hot(ids)
        return super().transform(results)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(meta_keys={self.meta_keys}, '
            f'num_classes={self.num_classes})'
        )
