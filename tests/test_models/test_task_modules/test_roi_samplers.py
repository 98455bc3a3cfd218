"""RoI samplers by themselves, through CombinedSampler, and in the host's heads."""

import copy
from collections import Counter
from functools import cache

import pytest
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.registry import MODELS as HOST_MODELS
from mmdet.registry import TASK_UTILS
from mmdet.testing import demo_mm_inputs, demo_mm_proposals
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmdet_imbalance.models.task_modules.samplers import hard_mining
from tests.helpers import oracles_roi_balance as oracle

PREFIX = 'mmdet_imbalance.'
POSITIVE = ['ForegroundBalancedPosSampler', 'EqualInstancePosSampler']
NEGATIVE = ['IoURangeNegSampler', 'EqualIoUNegSampler', 'HardNegativeSampler']
ALL = [
    'PlainRoISampler',
    *POSITIVE,
    *NEGATIVE,
    'TotalLossOHEMSampler',
    'MinedNegativeSampler',
]


@pytest.fixture(scope='module', autouse=True)
def host():
    register_all_modules(init_default_scope=True)


def build(name, num=8, pos_fraction=0.5, **more):
    config = dict(type=PREFIX + name, num=num, pos_fraction=pos_fraction, **more)
    return TASK_UTILS.build(config)


def combined(positive, negative, num=8, pos_fraction=0.5, **more):
    return TASK_UTILS.build(
        dict(
            type='CombinedSampler',
            num=num,
            pos_fraction=pos_fraction,
            pos_sampler=positive,
            neg_sampler=negative,
            **more,
        )
    )


def image(gt_inds, gt_labels, overlaps=None):
    """An image of which only the assignment matters; proposal i is [i, i, i+1, i+1]."""
    gt_inds = torch.tensor(gt_inds, dtype=torch.long)
    labels = torch.full_like(gt_inds, -1)
    positive = gt_inds > 0
    gt_label = torch.tensor(gt_labels, dtype=torch.long)
    labels[positive] = gt_label[gt_inds[positive] - 1]
    overlaps = torch.tensor(overlaps) if overlaps else (gt_inds > 0).float()
    assigned = AssignResult(len(gt_labels), gt_inds, overlaps, labels)
    start = torch.arange(len(gt_inds), dtype=torch.float32)[:, None]
    boxes = torch.cat([start, start, start + 1, start + 1], 1)
    gt = InstanceData(
        bboxes=torch.zeros(len(gt_labels), 4) + torch.tensor([0.0, 0, 9, 9]),
        labels=gt_label,
    )
    return assigned, InstanceData(priors=boxes), gt


# 12 positives of class 3 (object 1), 2 of class 5 (object 2), 1 of class 5 (object 3),
# 20 negatives, 3 ignored.
CROWDED = ([1] * 12 + [2] * 2 + [3] + [0] * 20 + [-1] * 3, [3, 5, 5])


# --- what all of them share ------------------------------------------------------
@pytest.mark.parametrize('name', ALL)
def test_misspelt_keys_raise(name):
    with pytest.raises(TypeError, match='pos_fractoin'):
        build(name, pos_fractoin=0.5)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize(('num', 'fraction'), [(0, 0.5), (8, 1.5), (8, -0.1)])
def test_impossible_numbers_are_refused(name, num, fraction):
    with pytest.raises(ValueError, match='num='):
        build(name, num=num, pos_fraction=fraction)


@pytest.mark.parametrize('key', ['pos_sampler', 'neg_sampler'])
def test_misspelt_keys_raise_in_a_combination(key):
    parts = dict(
        pos_sampler=dict(type=PREFIX + 'ForegroundBalancedPosSampler'),
        neg_sampler=dict(type=PREFIX + 'EqualIoUNegSampler'),
    )
    parts[key]['scpoe'] = 'image'
    with pytest.raises(TypeError, match='scpoe'):
        combined(parts['pos_sampler'], parts['neg_sampler'])


@pytest.mark.parametrize('positive', POSITIVE)
@pytest.mark.parametrize('negative', ['RandomSampler', *NEGATIVE[:2]])
@pytest.mark.parametrize('add_gt', [True, False])
def test_any_positive_with_any_negative(positive, negative, add_gt):
    negative = negative if negative == 'RandomSampler' else PREFIX + negative
    more = dict(iou_range=[0.0, 0.5]) if negative.endswith('RangeNegSampler') else {}
    sampler = combined(
        dict(type=PREFIX + positive),
        dict(type=negative, **more),
        add_gt_as_proposals=add_gt,
    )
    result = sampler.sample(*image(*CROWDED))
    assert len(result.pos_inds) == 4
    assert len(result.neg_inds) == 4
    gt_inds = torch.tensor(([1, 2, 3] if add_gt else []) + CROWDED[0])
    assert (gt_inds[result.pos_inds] > 0).all()
    assert (gt_inds[result.neg_inds] == 0).all()


@pytest.mark.parametrize('name', [*POSITIVE, 'PlainRoISampler', *NEGATIVE[:2]])
@pytest.mark.parametrize(
    ('gt_inds', 'gt_labels'),
    [([], []), ([0] * 30, []), ([1] * 30, [2]), ([-1] * 9, [2])],
)
def test_empty_images_and_one_kind_only(name, gt_inds, gt_labels):
    more = dict(iou_range=(0, 1)) if name == 'IoURangeNegSampler' else {}
    sampler = build(name, add_gt_as_proposals=False, **more)
    gt_inds = torch.tensor(gt_inds, dtype=torch.long)
    result = sampler.sample(*image(gt_inds.tolist(), gt_labels))
    assert len(result.pos_inds) == min(4, (gt_inds > 0).sum())
    num_neg = 8 - len(result.pos_inds)
    assert len(result.neg_inds) == min(num_neg, (gt_inds == 0).sum())


@pytest.mark.parametrize('name', [*POSITIVE, 'PlainRoISampler', *NEGATIVE[:2]])
def test_choices_come_from_the_own_generator(name):
    more = dict(iou_range=(0, 1)) if name == 'IoURangeNegSampler' else {}

    def choices(seed):
        sampler = build(name, seed=seed, add_gt_as_proposals=False, **more)
        results = [sampler.sample(*image(*CROWDED)) for _ in range(3)]
        return [r.pos_inds.tolist() + r.neg_inds.tolist() for r in results]

    torch.manual_seed(0)
    first = choices(5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert choices(5) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert choices(6) != first
    assert first[0] != first[1]


# --- foreground balance ----------------------------------------------------------
def test_classes_are_drawn_by_their_balanced_probability():
    sampler = build(
        'ForegroundBalancedPosSampler', 2, 0.5, seed=0, add_gt_as_proposals=False
    )
    first = Counter()
    for _ in range(3000):
        result = sampler.sample(*image(*CROWDED))
        first[int(result.pos_inds[0])] += 1
    probs = oracle.foreground_balanced([3] * 12 + [5] * 3)
    for index, probability in enumerate(probs):
        expected = 3000 * probability
        assert abs(first[index] - expected) < 4.5 * expected**0.5


def test_fewer_positives_than_asked_are_all_taken():
    sampler = build('ForegroundBalancedPosSampler', 64, 0.5, add_gt_as_proposals=False)
    assert sampler.sample(*image(*CROWDED)).pos_inds.tolist() == list(range(15))


def test_the_scope_is_checked():
    with pytest.raises(ValueError, match=r'`scope`.*epoch'):
        build('ForegroundBalancedPosSampler', scope='epoch')
    sampler = build('ForegroundBalancedPosSampler', scope='batch')
    with pytest.raises(ValueError, match='ImbalanceRoIHead'):
        sampler.sample(*image(*CROWDED))


def test_over_the_batch_a_rare_class_of_one_image_takes_its_share():
    sampler = build('ForegroundBalancedPosSampler', 64, 0.5, scope='batch', seed=0)
    labels = [torch.tensor([0] * 40), torch.tensor([0] * 40 + [7] * 30)]
    shares = []
    for _ in range(200):
        first, second = sampler.sample_batch_pos(labels, 20)
        assert len(first) + len(second) == 20
        shares.append((labels[1][second] == 7).sum().item() / 20)
    # Successive draws: a little under the half with which they begin, as 30 run out
    # faster than 80.
    assert sum(shares) / 200 == pytest.approx(0.47, abs=0.05)


def test_over_the_batch_no_image_has_more_than_its_rois():
    sampler = build('ForegroundBalancedPosSampler', 8, 0.5, scope='batch', seed=0)
    labels = [torch.zeros(50, dtype=torch.long), torch.ones(3, dtype=torch.long)]
    picked = sampler.sample_batch_pos([*labels, labels[0][:0]], 12)
    assert [len(one) for one in picked] == [8, 3, 0]


# --- equal instances -------------------------------------------------------------
def test_objects_give_equally_many_and_exactly_what_was_asked():
    sampler = build('EqualInstancePosSampler', 14, 0.5, add_gt_as_proposals=False)
    for _ in range(20):
        result = sampler.sample(*image(*CROWDED))
        per_object = torch.tensor(CROWDED[0])[result.pos_inds].bincount()[1:]
        assert per_object.tolist() == [4, 2, 1]


# --- negatives by IoU ------------------------------------------------------------
OVERLAPS = [0.9] * 2 + [0.02] * 30 + [0.2] * 10 + [0.45] * 5
BY_IOU = ([1] * 2 + [0] * 45, [3], OVERLAPS)


@pytest.mark.parametrize('iou_range', [(0.1, 0.5), [0.1, 0.5]])
def test_a_list_means_what_a_tuple_means(iou_range):
    sampler = build('IoURangeNegSampler', 12, iou_range=iou_range)
    result = sampler.sample(*image(*BY_IOU))
    overlaps = torch.tensor([1.0, *OVERLAPS])[result.neg_inds]
    assert len(overlaps) == 9
    assert overlaps.min() >= 0.1


def test_negatives_outside_the_range_only_fill_up():
    few = build('IoURangeNegSampler', 32).sample(*image(*BY_IOU))
    assert len(few.neg_inds) == 15
    full = build('IoURangeNegSampler', 32, top_up=True).sample(*image(*BY_IOU))
    assert len(full.neg_inds) == 29
    assert set(few.neg_inds.tolist()) <= set(full.neg_inds.tolist())


@pytest.mark.parametrize('iou_range', [0.1, (0.5, 0.1), (0.1,), (-0.1, 0.5), 'ab'])
def test_bad_ranges_are_refused(iou_range):
    with pytest.raises(ValueError, match='`iou_range`'):
        build('IoURangeNegSampler', iou_range=iou_range)


def test_intervals_of_iou_give_equal_shares():
    sampler = build('EqualIoUNegSampler', 15)
    for _ in range(10):
        result = sampler.sample(*image(*BY_IOU))
        overlaps = torch.tensor([1.0, *OVERLAPS])[result.neg_inds]
        # 12 wanted of 3 intervals.
        assert [(overlaps == v).sum() for v in (0.02, 0.2, 0.45)] == [4, 4, 4]


def test_sampling_changes_no_setting():
    sampler = build('EqualIoUNegSampler', 15, floor_thr=-1)
    before = dict(vars(sampler), _generators=None)
    sampler.sample(*image(*BY_IOU))
    assert dict(vars(sampler), _generators=None) == before


@pytest.mark.parametrize(('fraction', 'num_floor'), [(0.25, 3), (0.5, 6), (1.0, 12)])
def test_the_floor_gives_its_fraction(fraction, num_floor):
    sampler = build('EqualIoUNegSampler', 15, floor_thr=0.1, floor_fraction=fraction)
    result = sampler.sample(*image(*BY_IOU))
    overlaps = torch.tensor([1.0, *OVERLAPS])[result.neg_inds]
    assert (overlaps < 0.1).sum() == num_floor
    assert len(overlaps) == 12


def test_what_one_side_lacks_comes_from_the_other():
    sampler = build('EqualIoUNegSampler', 43, floor_thr=0.1, floor_fraction=0.1)
    result = sampler.sample(*image(*BY_IOU))
    overlaps = torch.tensor([1.0, *OVERLAPS])[result.neg_inds]
    assert len(overlaps) == 40
    assert (overlaps < 0.1).sum() == 25


@pytest.mark.parametrize(
    'bad',
    [
        dict(num_bins=0),
        dict(max_iou=0.0),
        dict(floor_thr=0.6),
        dict(floor_fraction=0.5),
        dict(floor_thr=0.1, floor_fraction=2),
    ],
)
def test_bad_intervals_are_refused(bad):
    with pytest.raises(ValueError, match=r'IoU intervals|floor_fraction'):
        build('EqualIoUNegSampler', **bad)


# --- hard mining in real heads ---------------------------------------------------
FASTER_RCNN = 'faster-rcnn_r50_fpn'
CASCADE_RCNN = 'cascade-rcnn_r50_fpn'


@cache
def host_model(name):
    lines = f"_base_ = 'mmdet::_base_/models/{name}.py'"
    return Config.fromstring(lines, '.py').model


def roi_head(sampler, name=FASTER_RCNN, head_type=None, **changes):
    model = copy.deepcopy(host_model(name))
    config, train_cfg = model.roi_head, model.train_cfg.rcnn
    for stage in train_cfg if isinstance(train_cfg, list) else [train_cfg]:
        stage.sampler = copy.deepcopy(sampler)
    heads = config.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=8, fc_out_channels=16, num_classes=4, **changes)
    config.bbox_roi_extractor.out_channels = 8
    config.update(train_cfg=train_cfg, test_cfg=model.test_cfg.rcnn)
    config.type = head_type or config.type
    torch.manual_seed(0)
    return HOST_MODELS.build(config).train()


def forward(head, num_images=3, proposals=None):
    torch.manual_seed(1)
    features = [torch.rand(num_images, 8, 64 // 2**i, 64 // 2**i) for i in range(4)]
    shapes = [[3, 256, 256]] * num_images
    samples = demo_mm_inputs(
        num_images, image_shapes=shapes, num_items=[2, 0, 3][:num_images], num_classes=4
    )['data_samples']
    for sample in samples if proposals is not None else []:
        sample.proposals = InstanceData(bboxes=proposals)
    rpn_results = demo_mm_proposals(shapes, num_proposals=60)
    return head.loss(features, rpn_results, samples)


@pytest.mark.parametrize(
    'negative', ['PlainRoISampler', *NEGATIVE], ids=lambda name: name
)
@pytest.mark.parametrize('config', [FASTER_RCNN, CASCADE_RCNN])
def test_combinations_train_in_the_host_s_heads(negative, config):
    sampler = dict(
        type='CombinedSampler',
        num=32,
        pos_fraction=0.25,
        pos_sampler=dict(type=PREFIX + 'ForegroundBalancedPosSampler'),
        neg_sampler=dict(type=PREFIX + negative),
    )
    losses = forward(roi_head(sampler, config))
    total = sum(loss.sum() for name, loss in losses.items() if 'loss' in name)
    assert torch.isfinite(total)
    total.backward()


def spy_on(head, monkeypatch):
    """Record what each image's sampling saw and gave."""
    seen = []
    sampler = head.bbox_sampler
    original = type(sampler).sample

    def sample(self, assigned, proposals, gt, **kwargs):
        result = original(self, assigned, proposals, gt, **kwargs)
        seen.append((assigned, proposals, gt, kwargs['feats'], result))
        return result

    monkeypatch.setattr(type(sampler), 'sample', sample)
    return seen


def test_the_hardest_negatives_are_taken(monkeypatch):
    head = roi_head(
        dict(type=PREFIX + 'HardNegativeSampler', num=16, pos_fraction=0.25)
    )
    seen = spy_on(head, monkeypatch)
    forward(head)
    assert len(seen) == 3
    for assigned, proposals, gt, feats, result in seen:
        boxes = torch.cat([gt.bboxes, proposals.priors])
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
        with torch.no_grad():
            logits = head._bbox_forward(feats, rois)['cls_score']
        score = logits.softmax(1)[:, :-1].amax(1)
        negative = [i for i, n in enumerate(assigned.gt_inds.tolist()) if n == 0]
        hardest = sorted(negative, key=lambda i: -score[i])[: 16 - len(result.pos_inds)]
        assert sorted(hardest) == result.neg_inds.tolist()


@pytest.mark.parametrize('loss_bbox', ['L1Loss', 'GIoULoss'])
def test_ohem_takes_the_highest_total_loss_after_nms(monkeypatch, loss_bbox):
    sampler = dict(type=PREFIX + 'TotalLossOHEMSampler', num=16, pos_fraction=0.25)
    head = roi_head(
        sampler,
        loss_bbox=dict(type=loss_bbox, loss_weight=3.0),
        reg_decoded_bbox=loss_bbox == 'GIoULoss',
    )
    seen = spy_on(head, monkeypatch)
    forward(head)
    for assigned, proposals, gt, feats, result in seen:
        boxes = torch.cat([gt.bboxes, proposals.priors])
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
        box_head = head.bbox_head
        with torch.no_grad():
            out = head._bbox_forward(feats, rois)
        loss = []
        for i, gt_ind in enumerate(assigned.gt_inds.tolist()):
            label = gt.labels[gt_ind - 1] if gt_ind > 0 else torch.tensor(4)
            value = nn.functional.cross_entropy(out['cls_score'][i], label)
            if gt_ind > 0:
                delta = out['bbox_pred'][i].view(4, 4)[label][None]
                target = gt.bboxes[gt_ind - 1][None]
                if loss_bbox == 'GIoULoss':
                    delta = box_head.bbox_coder.decode(boxes[i][None], delta)
                else:
                    target = box_head.bbox_coder.encode(boxes[i][None], target)
                box_loss = HOST_MODELS.build(dict(type=loss_bbox, reduction='sum'))
                value = value + 3 * box_loss(delta, target)
            loss.append(float(value))
        kept = oracle.greedy_nms(boxes.tolist(), loss, 0.7)[:16]
        chosen = result.pos_inds.tolist() + result.neg_inds.tolist()
        assert sorted(chosen) == sorted(kept)
        assert (assigned.gt_inds[result.pos_inds] > 0).all()
        assert (assigned.gt_inds[result.neg_inds] == 0).all()


def test_ohem_works_with_sigmoid_and_our_losses_and_in_a_cascade():
    sampler = dict(type=PREFIX + 'TotalLossOHEMSampler', num=16, pos_fraction=0.25)
    sigmoid = dict(type='CrossEntropyLoss', use_sigmoid=True)
    for head in (
        roi_head(sampler, CASCADE_RCNN),
        roi_head(sampler, loss_cls=sigmoid),
    ):
        losses = forward(head)
        assert all(
            torch.isfinite(loss).all()
            for name, loss in losses.items()
            if 'loss' in name
        )


def test_mining_leaves_statistics_and_modes_alone():
    head = roi_head(
        dict(type=PREFIX + 'HardNegativeSampler', num=16, pos_fraction=0.25)
    )
    head.bbox_head.shared_fcs.append(
        nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))
    )
    norm = head.bbox_head.shared_fcs[-1][1]
    norm.track = norm.running_mean.clone()
    head.bbox_head.fc_reg.eval()
    calls = []
    norm.register_forward_hook(lambda module, *_: calls.append(module.training))
    forward(head)
    # Three trial forwards, and the training's own.
    assert calls == [False] * 3 + [True]
    assert norm.num_batches_tracked == 1
    assert head.training
    assert not head.bbox_head.fc_reg.training


def test_ohem_is_no_half_of_a_combination():
    sampler = combined(
        dict(type=PREFIX + 'TotalLossOHEMSampler'), dict(type='RandomSampler')
    )
    with pytest.raises(ValueError, match='CombinedSampler'):
        sampler.sample(*image(*CROWDED))
    with pytest.raises(ValueError, match='neg_pos_ub'):
        build('TotalLossOHEMSampler', neg_pos_ub=3)
    with pytest.raises(ValueError, match='nms_iou_thr'):
        build('TotalLossOHEMSampler', nms_iou_thr=0)


def test_mining_without_a_box_head_says_where_it_belongs():
    with pytest.raises(ValueError, match='two-stage'):
        build('HardNegativeSampler').sample(*image(*CROWDED))


def test_a_loss_that_is_not_given_by_roi_is_refused():
    with pytest.raises(ValueError, match='`loss_cls`'):
        hard_mining.total_loss({'loss_cls': torch.rand(3)}, num=5, num_pos=2)


def test_the_batch_scope_is_realised_by_the_head():
    sampler = dict(
        type='CombinedSampler',
        num=16,
        pos_fraction=0.25,
        pos_sampler=dict(type=PREFIX + 'ForegroundBalancedPosSampler', scope='batch'),
        neg_sampler=dict(type='RandomSampler'),
    )
    head = roi_head(sampler, head_type=PREFIX + 'ImbalanceRoIHead')
    losses = forward(head)
    assert torch.isfinite(losses['loss_cls'])


# --- mined negatives -----------------------------------------------------------------
def mined_image(num_mined, gt_inds):
    assigned, proposals, gt = image(gt_inds, [3, 5, 5])
    proposals.mined = torch.arange(len(gt_inds)) >= len(gt_inds) - num_mined
    return assigned, proposals, gt


@pytest.mark.parametrize('add_gt', [True, False])
@pytest.mark.parametrize(
    ('num_mined', 'fraction', 'expected'),
    [(3, 0.5, 3), (9, 0.5, 4), (9, 1, 8), (0, 1, 0)],
)
def test_mined_negatives_come_first(num_mined, fraction, expected, add_gt):
    sampler = build(
        'MinedNegativeSampler',
        12,
        1 / 3,
        mined_fraction=fraction,
        add_gt_as_proposals=add_gt,
    )
    gt_inds = CROWDED[0][:15] + [0] * 40
    result = sampler.sample(*mined_image(num_mined, gt_inds))
    first_mined = (3 if add_gt else 0) + len(gt_inds) - num_mined
    assert len(result.neg_inds) == 8
    # The others come at random from those that were not mined.
    assert (result.neg_inds >= first_mined).sum() == expected


def test_a_mined_box_that_is_an_object_now_is_no_negative():
    sampler = build('MinedNegativeSampler', 12, 0.25, add_gt_as_proposals=False)
    result = sampler.sample(*mined_image(3, [0] * 20 + [1, 0, -1]))
    assert 21 in result.neg_inds
    assert not {20, 22} & set(result.neg_inds.tolist())


def test_mined_negatives_need_their_head():
    sampler = build('MinedNegativeSampler')
    with pytest.raises(ValueError, match='MinedNegativesRoIHead'):
        sampler.sample(*image(*CROWDED))
    half = combined(
        dict(type='RandomSampler'), dict(type=PREFIX + 'MinedNegativeSampler')
    )
    with pytest.raises(ValueError, match='CombinedSampler'):
        half.sample(*image(*CROWDED))
    with pytest.raises(ValueError, match='mined_fraction'):
        build('MinedNegativeSampler', mined_fraction=1.5)


def test_mined_negatives_train_in_their_head(monkeypatch):
    sampler = dict(
        type=PREFIX + 'MinedNegativeSampler',
        num=32,
        pos_fraction=0.25,
        mined_fraction=1.0,
    )
    head = roi_head(sampler, head_type=PREFIX + 'MinedNegativesRoIHead')
    with pytest.raises(ValueError, match='LoadHardNegatives'):
        forward(head)
    mined = torch.tensor([[200.0, 200, 240, 240], [10.0, 10, 10, 40]])
    seen = spy_on(head, monkeypatch)
    losses = forward(head, proposals=mined)
    assert losses['loss_cls'].isfinite()
    for assigned, proposals, _, _, result in seen:
        # The one without area is left out.
        assert proposals.mined.sum() == 1
        negative = bool(assigned.gt_inds[-1] == 0)
        assert ((result.neg_priors == mined[0]).all(1).any()) == negative
