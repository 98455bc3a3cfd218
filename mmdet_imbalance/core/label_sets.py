"""Targets that carry a set of labels for an object.

Shapes: N RoIs or anchors, P positives among them, C foreground classes
(background is index C).
"""

from typing import NamedTuple

from torch import Tensor


class MultiLabelTarget(NamedTuple):
    """Label sets of the positives only, beside one primary label per row.

    A dense (N, C) target of a one-stage detector would be hundreds of megabytes
    an image (201 k anchors x 601 classes), while the rows that are no positives
    say nothing beyond "background".

    Attributes:
        labels: primary (most specific) label of each row, shape (N,), values in
            [0, C], background is C.
        pos_inds: the rows that are positive, shape (P,), int64.
        multi_labels: label set of each positive, shape (P, C), bool; the primary
            label and, where the data have a hierarchy, all ancestors are True.
    """

    labels: Tensor
    pos_inds: Tensor
    multi_labels: Tensor
