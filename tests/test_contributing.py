"""The walk-through of CONTRIBUTING.md does what it says."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmdet_imbalance.models.losses.base import ClassificationLoss, Target
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing.detectors import small_detector_cfg
from tests.helpers.shell_blocks import ROOT, blocks


@pytest.fixture
def focus_loss():
    names = {
        'Tensor': Tensor,
        'F': F,
        'MODELS': MODELS,
        'ClassificationLoss': ClassificationLoss,
        'Target': Target,
        '__name__': 'mmdet_imbalance.models.losses.focus',
    }
    for block in blocks((ROOT / 'CONTRIBUTING.md').read_text(), ('python',)):
        exec(block, names)
    yield names['FocusLoss']
    del MODELS._module_dict['FocusLoss']


def test_new_loss_works_in_a_stock_detector(focus_loss):
    loss_cls = {'type': 'mmdet_imbalance.FocusLoss', 'num_classes': 4, 'sharpness': 1.0}
    detector = MODELS.build(small_detector_cfg('faster_rcnn', loss_cls, num_classes=4))
    loss = detector.roi_head.bbox_head.loss_cls
    assert isinstance(loss, focus_loss)
    logits, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 4])
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(logits, labels))
    torch.testing.assert_close(loss.get_activation(logits), logits.softmax(dim=-1))
