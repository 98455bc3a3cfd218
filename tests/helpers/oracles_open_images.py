"""The official Open Images evaluator and label expansion as oracles.

PyPI `tf-models-research-object-detection==2.8.0.post1` (Apache-2.0), installed without
its dependencies. The evaluator itself is numpy and `six`; what its modules import from
TensorFlow and protobuf is never called, so empty modules stand in for it.
"""

import contextlib
import importlib
import sys
import types
import warnings

import numpy as np
import pytest


@contextlib.contextmanager
def _stub_modules():
    """Empty modules under the names that the official code imports and never uses."""
    names = (
        'tensorflow',
        'tensorflow.compat',
        'tensorflow.compat.v1',
        'google.protobuf',
        'google.protobuf.text_format',
        'object_detection.protos',
        'object_detection.protos.string_int_label_map_pb2',
        'absl',
        'absl.app',
        'absl.flags',
    )
    before = {name: sys.modules.get(name) for name in names}
    attributes = []
    for name in names:
        module = types.ModuleType(name)
        module.__path__ = []
        sys.modules[name] = module
        parent, _, child = name.rpartition('.')
        if parent in sys.modules:
            parent = sys.modules[parent]
            attributes.append((parent, child, parent.__dict__.get(child)))
            setattr(parent, child, module)
    sys.modules['tensorflow.compat.v1'].io = None
    sys.modules['absl.flags'].DEFINE_string = lambda *args: None
    sys.modules['absl.flags'].DEFINE_integer = lambda *args: None
    sys.modules['absl.flags'].FLAGS = None
    try:
        yield
    finally:
        for parent, child, value in reversed(attributes):
            setattr(parent, child, value)
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def official(module):
    """A module of the official package; skips the test where it is not installed."""
    pytest.importorskip('six')
    pytest.importorskip('object_detection')
    # The package dates from before numpy 1.24.
    for name, value in (('float', float), ('bool', bool), ('NAN', np.nan)):
        if name not in np.__dict__:
            setattr(np, name, value)
    with _stub_modules(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return importlib.import_module(f'object_detection.{module}')


def official_figures(images, num_classes, challenge, group_of_weight, iou_thr=0.5):
    """Mean AP and AP of each class, shape (C,), by the official evaluator.

    `images`: dictionaries with gt_box (x1, y1, x2, y2), gt_label, gt_is_group_of,
    verified (labels), det_box, det_label, det_score, everything expanded beforehand.
    """
    module = official('utils.object_detection_evaluation')
    fields = official('core.standard_fields')
    categories = [{'id': c + 1, 'name': f'{c:05d}'} for c in range(num_classes)]
    kind = (
        module.OpenImagesChallengeEvaluator
        if challenge
        else module.OpenImagesDetectionEvaluator
    )
    evaluator = kind(
        categories, matching_iou_threshold=iou_thr, group_of_weight=group_of_weight
    )
    yxyx = [1, 0, 3, 2]
    gt, det = fields.InputDataFields, fields.DetectionResultFields
    for i, image in enumerate(images):
        evaluator.add_single_ground_truth_image_info(
            i,
            {
                gt.groundtruth_boxes: image['gt_box'][:, yxyx].astype(float),
                gt.groundtruth_classes: image['gt_label'] + 1,
                gt.groundtruth_group_of: image['gt_is_group_of'].astype(bool),
                gt.groundtruth_image_classes: image['verified'] + 1,
            },
        )
        evaluator.add_single_detected_image_info(
            i,
            {
                det.detection_boxes: image['det_box'][:, yxyx].astype(float),
                det.detection_scores: image['det_score'].astype(float),
                det.detection_classes: image['det_label'] + 1,
            },
        )
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        result = evaluator.evaluate()
    mean = next(value for key, value in result.items() if '/mAP@' in key)
    by_name = {key.rsplit('/', 1)[1]: v for key, v in result.items() if '/AP@' in key}
    return mean, np.array([by_name[f'{c:05d}'] for c in range(num_classes)])


def official_expansion(hierarchy):
    """Two functions from a label name to the names after the official expansion.

    The first one is for boxes and verified presence, the second for absence.
    """
    module = official('dataset_tools.oid_hierarchical_labels_expansion')
    expansion = module.OIDHierarchicalLabelsExpansion(hierarchy)

    def names(rows, column):
        return [row.split(',')[column] for row in rows]

    def upwards(name):
        return names(expansion.expand_boxes_or_segments_from_csv(f'image,{name},1'), 1)

    def downwards(name):
        row = f'image,{name},0'
        return names(expansion.expand_labels_from_csv(row, 1, 2), 1)

    return upwards, downwards
