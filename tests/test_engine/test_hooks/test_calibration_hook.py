"""Calibration of any head at test time."""

import numpy as np
import pytest
import torch
from torch import nn

from mmdet_imbalance.core.calibration import (
    fractal_calibration,
    norcal,
    tau_normalization,
)
from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.engine.hooks.calibration_hook import CalibrationHook


def stats_of(counts):
    counts = np.array(counts)
    return ClassStats(
        class_names=[f'c{k}' for k in range(len(counts))],
        img_count=counts,
        instance_count=3 * counts,
        num_images=int(counts.max()),
    )


STATS = stats_of([100, 10, 1])
COUNTS = torch.tensor([100.0, 10, 1])


class Head(nn.Module):
    def __init__(self, name, layer, num_classes=3):
        super().__init__()
        self.num_classes = num_classes
        setattr(self, name, layer)


def test_box_head_is_calibrated_in_evaluation_only():
    layer = nn.Linear(5, 4)
    rpn = nn.Conv2d(2, 3, 1)
    model = nn.ModuleList([Head('fc_cls', layer), Head('conv_cls', rpn, 1)])
    hook = CalibrationHook('norcal', 0.6)
    features, image = torch.randn(6, 5), torch.randn(1, 2, 4, 4)
    plain, proposals = layer(features), rpn(image)
    assert hook.attach(model, STATS) == 1
    torch.testing.assert_close(layer(features), plain)
    model.eval()
    torch.testing.assert_close(layer(features), norcal(plain, COUNTS, 0.6))
    torch.testing.assert_close(rpn(image), proposals)
    hook.detach()
    torch.testing.assert_close(layer(features), plain)
    hook = CalibrationHook('norcal', 0.6, counts='instance_count')
    hook.attach(model, STATS)
    torch.testing.assert_close(layer(features), norcal(plain, 3 * COUNTS, 0.6))


@pytest.mark.parametrize('method', ['norcal', 'logit_adjustment', 'tau_normalization'])
def test_dense_head_equals_rows(method):
    layer = nn.Conv2d(2, 6, 1).eval()
    image = torch.randn(2, 2, 4, 5)
    plain = layer(image)
    hook = CalibrationHook(method, 0.5)
    hook.attach(Head('retina_cls', layer), STATS)
    got = layer(image)
    assert got.shape == plain.shape
    for anchor in range(2):
        channels = slice(3 * anchor, 3 * anchor + 3)
        rows = plain[:, channels].permute(0, 2, 3, 1).reshape(-1, 3)
        if method == 'tau_normalization':
            every = plain.permute(0, 2, 3, 1).reshape(-1, 6)
            expected = tau_normalization(every, layer.weight, layer.bias, 0.5)
            expected = expected[:, channels]
        else:
            expected = hook._rows(rows, COUNTS, None, None)
        own = got[:, channels].permute(0, 2, 3, 1).reshape(-1, 3)
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize('exponent', [None, 0.5])
def test_fractal_calibration_knows_softmax_from_sigmoid(exponent):
    dimension = torch.tensor([2.0, 1.5, 1.0])
    lam = 2.0 if exponent is None else exponent
    hook = CalibrationHook('fractal', 0.8, space_exponent=exponent)
    layer, features = nn.Linear(5, 4).eval(), torch.randn(6, 5)
    plain = layer(features)
    hook.attach(Head('fc_cls', layer), STATS, dimension)
    expected = fractal_calibration(plain, COUNTS, dimension, 0.8, lam)
    torch.testing.assert_close(layer(features), expected)
    conv, image = nn.Conv2d(2, 6, 1).eval(), torch.randn(2, 2, 3, 3)
    plain = conv(image)
    hook.attach(Head('retina_cls', conv), STATS)
    rows = plain.permute(0, 2, 3, 1).reshape(-1, 2, 3)
    expected = fractal_calibration(rows, COUNTS, dimension, 0.8, lam).reshape(
        2, 3, 3, 6
    )
    torch.testing.assert_close(conv(image), expected.permute(0, 3, 1, 2))


def test_background_row_keeps_its_weight_in_tau_normalisation():
    layer = nn.Linear(5, 4).eval()
    features = torch.randn(6, 5)
    plain = layer(features)
    CalibrationHook('tau_normalization', 1.0).attach(Head('fc_cls', layer), STATS)
    got = layer(features)
    torch.testing.assert_close(got[:, 3], plain[:, 3])
    expected = tau_normalization(plain[:, :3], layer.weight[:3], layer.bias[:3], 1.0)
    torch.testing.assert_close(got[:, :3], expected)


def test_stock_and_own_heads_see_calibrated_logits():
    """The activation of the loss, whichever it is, gets what the hook made."""
    from mmdet.models import Shared2FCBBoxHead
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    common = dict(
        in_channels=2,
        fc_out_channels=8,
        roi_feat_size=2,
        num_classes=3,
    )
    losses = [
        dict(type='CrossEntropyLoss'),
        dict(type='mmdet_imbalance.ConcurrentSoftmaxLoss', num_classes=3),
    ]
    features = torch.randn(4, 2, 2, 2)
    for loss in losses:
        head = Shared2FCBBoxHead(**common, loss_cls=loss).eval()
        plain, _ = head(features)
        hook = CalibrationHook('logit_adjustment', 1.0)
        assert hook.attach(head, STATS) == 1
        calibrated, _ = head(features)
        shift = (calibrated - plain)[0].tolist()
        assert shift == pytest.approx([0, np.log(10), np.log(100), 0], abs=1e-5)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"`method` must be .*got 'temperature'"):
        CalibrationHook('temperature', 1.0)
    with pytest.raises(ValueError, match='`counts`'):
        CalibrationHook('norcal', 1.0, counts='images')
    with pytest.raises(ValueError, match='`space_exponent` is of'):
        CalibrationHook('norcal', 1.0, space_exponent=2.0)
    layer = nn.Linear(2, 4).eval()
    CalibrationHook('fractal', 1.0).attach(Head('fc_cls', layer), STATS)
    with pytest.raises(ValueError, match='knows no places'):
        layer(torch.zeros(1, 2))
    hook = CalibrationHook('norcal', 1.0)
    with pytest.raises(ValueError, match='no head with num_classes=3'):
        hook.attach(Head('fc_cls', nn.Linear(2, 3), num_classes=7), STATS)
