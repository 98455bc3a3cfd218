"""A RoI head that makes its positives, balanced over class and IoU."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData

TYPE = 'mmdet_imbalance.GeneratedPositivesRoIHead'
NUM = 16
GT = [[10.0, 10, 60, 50], [100, 20, 200, 120], [20, 150, 90, 240], [150, 150, 190, 250]]
LABELS = [0, 0, 0, 3]


@pytest.fixture(scope='module')
def host_config():
    register_all_modules(init_default_scope=True)
    lines = "_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'"
    return Config.fromstring(lines, '.py').model


def build(host_config, neg_sampler='mmdet_imbalance.PlainRoISampler', **more):
    model = copy.deepcopy(host_config)
    config, train_cfg = model.roi_head, model.train_cfg.rcnn
    train_cfg.sampler = dict(
        type='CombinedSampler',
        num=2 * NUM,
        pos_fraction=0.5,
        add_gt_as_proposals=False,
        pos_sampler=dict(type='mmdet_imbalance.PlainRoISampler'),
        neg_sampler=dict(type=neg_sampler),
    )
    config.bbox_head.update(in_channels=8, fc_out_channels=16, num_classes=4)
    config.bbox_roi_extractor.out_channels = 8
    config.update(type=TYPE, train_cfg=train_cfg, test_cfg=model.test_cfg.rcnn)
    config.update(dict(num_generated=NUM, seed=0) | more)
    torch.manual_seed(0)
    return MODELS.build(config).train()


def sample_of(boxes, labels):
    sample = DetDataSample(metainfo=dict(img_shape=(256, 256)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.tensor(labels).long()
    )
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long()
    )
    return sample


def batch():
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(60, 2, generator=generator) * 200
    side = torch.rand(60, 2, generator=generator) * 56
    proposals = torch.cat([low, low + side], 1)
    # Some proposals are good ones of the first object.
    proposals[:9] = torch.tensor(GT[0]) + torch.arange(9)[:, None]
    features = [
        torch.rand(3, 8, 64 // 2**i, 64 // 2**i, generator=generator) for i in range(4)
    ]
    samples = [sample_of(GT, LABELS), sample_of([], []), sample_of(GT[3:], LABELS[3:])]
    return features, [InstanceData(bboxes=proposals.clone()) for _ in samples], samples


def spied(head, monkeypatch, **more):
    """Sampling results of a training step."""
    seen = []
    original = type(head.bbox_sampler).sample

    def sample(self, *args, **kwargs):
        seen.append(original(self, *args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(type(head.bbox_sampler), 'sample', sample)
    features, proposals, samples = batch()
    losses = head.loss(features, proposals, samples)
    return seen, losses


@pytest.mark.parametrize(
    'negative',
    ['mmdet_imbalance.PlainRoISampler', 'mmdet_imbalance.HardNegativeSampler'],
)
def test_all_positives_are_generated_and_balanced(host_config, monkeypatch, negative):
    head = build(host_config, negative)
    (first, empty, last), losses = spied(head, monkeypatch)
    assert len(first.pos_inds) == len(last.pos_inds) == NUM
    assert len(empty.pos_inds) == 0
    assert len(empty.neg_inds) == 2 * NUM
    # Objects of class 0 and of class 3 have the same share.
    assert first.pos_gt_labels.bincount(minlength=4).tolist() == [8, 0, 0, 8]
    for result in (first, last):
        iou = bbox_overlaps(result.pos_priors, result.pos_gt_bboxes, is_aligned=True)
        interval = (iou.clamp(0.5, 1 - 1e-6) * 10 - 5).long()
        assert set(interval.bincount(minlength=5).tolist()) <= {3, 4}
        assert result.pos_priors.min() >= 0
        assert result.pos_priors.max() <= 256
    # No positive of the proposals has become a negative.
    negatives = first.neg_priors
    assert bbox_overlaps(negatives, torch.tensor(GT)).max() < 0.5
    total = sum(loss.sum() for name, loss in losses.items() if 'loss' in name)
    assert torch.isfinite(total)
    total.backward()


def test_generated_boxes_may_join_the_proposals(host_config):
    _, proposals, samples = batch()
    head = build(host_config, replace=False)
    joined = head.with_positives(proposals[0], samples[0]).bboxes
    assert torch.equal(joined[:60], proposals[0].bboxes)
    assert len(joined) == 60 + NUM
    replaced = build(host_config).with_positives(proposals[0], samples[0]).bboxes
    assert torch.equal(replaced[-NUM:], joined[-NUM:])
    iou = bbox_overlaps(proposals[0].bboxes, torch.tensor(GT)).amax(1)
    assert torch.equal(replaced[:-NUM], proposals[0].bboxes[iou < 0.5])


def test_impossible_arguments_are_refused(host_config):
    for more, message in (
        (dict(num_generated=0), '`num_generated`'),
        (dict(iou_edges=(0.3, 0.6)), r'IoU 0\.3 .*pos_iou_thr=0\.5'),
        (dict(iou_edges=(0.5,)), '`iou_edges`'),
        (dict(iou_weights=(1,)), '`iou_weights`'),
    ):
        with pytest.raises(ValueError, match=message):
            build(host_config, **more)
    with pytest.raises(TypeError, match='iou_egdes'):
        build(host_config, iou_egdes=(0.5, 1))


def test_a_list_of_thresholds_is_refused_by_every_sampler(host_config):
    config = copy.deepcopy(host_config)
    for threshold, fails in (((0.1, 0.5), False), ([0.1, 0.5], True)):
        config.train_cfg.rcnn.assigner.neg_iou_thr = threshold
        if not fails:
            build(config)
            continue
        with pytest.raises(ValueError, match=r'neg_iou_thr=\[0\.1, 0\.5\].*a list'):
            build(config)
