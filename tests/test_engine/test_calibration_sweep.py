"""Replaying a head gives what a calibrated run gives."""

import numpy as np
import pytest
import torch
from torch import nn

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.engine.calibration_sweep import HeadReplay
from mmdet_imbalance.engine.hooks.calibration_hook import CalibrationHook
from tests.helpers.detector_batches import batch, build_detector

COUNT = np.array([900, 40, 3])
STATS = ClassStats(
    class_names=('a', 'b', 'c'), img_count=COUNT, instance_count=COUNT, num_images=900
)
SOFTMAX = dict(type='CrossEntropyLoss')
FOCAL = dict(type='FocalLoss', use_sigmoid=True)


@pytest.mark.parametrize('method', ['norcal', 'tau_normalization', 'fractal'])
@pytest.mark.parametrize(
    ('kind', 'loss'), [('faster_rcnn', SOFTMAX), ('retinanet', FOCAL)]
)
def test_replay_is_the_calibrated_detector(kind, loss, method):
    model = build_detector(kind, loss, 3).eval()
    assert HeadReplay.fits(model)
    images, samples = batch(3, 3)
    hook = CalibrationHook(method, 0.0)
    hook.attach(model, STATS, torch.tensor([2.0, 1.5, 1.0]))
    replay = HeadReplay(model)
    with torch.no_grad():
        plain = model.predict(images, [s.clone() for s in samples])
        hook.strength = 0.7
        got = replay.predict(plain, hook.calibrated(replay.head))
        replay.detach()
        expected = model.predict(images, [s.clone() for s in samples])
    moved = False
    for one, other, before in zip(got, expected, plain, strict=True):
        assert len(one.pred_instances)
        for name in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(
                one.pred_instances[name], other.pred_instances[name]
            )
        moved |= not torch.equal(
            one.pred_instances.scores, before.pred_instances.scores
        )
    assert moved


def test_other_detectors_are_left_to_a_run_for_each_trial():
    assert not HeadReplay.fits(build_detector('cascade_rcnn', SOFTMAX, 3))
    assert not HeadReplay.fits(nn.Linear(2, 2))
