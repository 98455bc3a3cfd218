"""Places of objects, out of the records of any dataset."""

import numpy as np
import pytest

from mmdet_imbalance.core.label_set_table import LabelSetTable
from mmdet_imbalance.datasets.object_centers import object_centers


class Records:
    """A dataset of plain records."""

    def __init__(self, *records):
        self.metainfo = {'classes': ('a', 'b', 'c')}
        self.records = records

    def __len__(self):
        return len(self.records)

    def get_data_info(self, index):
        return self.records[index]


def test_centres_are_fractions_of_the_image():
    table = LabelSetTable(3)
    both = table.add([0, 2])
    dataset = Records(
        {
            'width': 200,
            'height': 100,
            'label_sets': table,
            'instances': [
                {'bbox': [0, 0, 100, 100], 'bbox_label': 1},
                {'bbox': [100, 50, 200, 100], 'bbox_label': both},
                {'bbox': [0, 0, 9, 9], 'bbox_label': 0, 'ignore_flag': 1},
                {'bbox': [0, 0, 9, 9], 'bbox_label': 0, 'is_group_of': True},
            ],
        },
        {
            'boxes_are_normalized': True,
            'instances': [{'bbox': [0.2, 0.2, 0.4, 0.4], 'bbox_label': 2}],
        },
    )
    centers, labels = object_centers(dataset)
    assert labels.tolist() == [1, 0, 2, 2]
    expected = [[0.25, 0.5], [0.75, 0.75], [0.75, 0.75], [0.3, 0.3]]
    np.testing.assert_allclose(centers, expected)


def test_no_objects_and_no_size():
    centers, labels = object_centers(
        Records({'width': 5, 'height': 5, 'instances': []})
    )
    assert (centers.shape, labels.shape) == ((0, 2), (0,))
    record = {'img_id': 7, 'instances': [{'bbox': [0, 0, 1, 1], 'bbox_label': 0}]}
    with pytest.raises(ValueError, match='image 7 has no `width`'):
        object_centers(Records(record))
