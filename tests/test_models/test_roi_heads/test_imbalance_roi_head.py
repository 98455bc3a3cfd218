"""The RoI head: stock when nothing is asked for, and each thing that can be asked."""

import pytest
import torch
from mmdet.models.losses.pisa_loss import isr_p
from mmdet.structures.bbox import bbox2roi
from mmengine.registry import init_default_scope

from mmdet_imbalance.core.label_sets import MultiLabelTarget
from mmdet_imbalance.models.roi_heads.batch_sampling import positive_candidates
from mmdet_imbalance.registry import MODELS
from tests.helpers.detector_batches import batch, build_detector, losses_of, total

C = 4
OURS = 'mmdet_imbalance.'
CROSS_ENTROPY = dict(type='CrossEntropyLoss', use_sigmoid=False)
ISR_P = dict(type=OURS + 'IoUHierarchicalWeight')
ISR_N = dict(type=OURS + 'ScoreHierarchicalWeight', score_thr=0.0)
CARL = dict(type=OURS + 'ClassificationAwareRegressionLoss')


def detector(loss_cls=None, seed=0, change=None, **head):
    def edit(cfg):
        cfg.roi_head.update(type=OURS + 'ImbalanceRoIHead', **head)
        if change is not None:
            change(cfg)

    return build_detector('faster_rcnn', loss_cls or CROSS_ENTROPY, C, edit, seed)


def stock(loss_cls=None, seed=0, change=None):
    return build_detector('faster_rcnn', loss_cls or CROSS_ENTROPY, C, change, seed)


def assert_same(losses, expected, exact=False):
    assert list(losses) == list(expected)
    for name, value in losses.items():
        parts = zip(
            value if isinstance(value, list) else [value],
            expected[name] if isinstance(value, list) else [expected[name]],
            strict=True,
        )
        for one, other in parts:
            if exact:
                assert torch.equal(one, other), name
            else:
                torch.testing.assert_close(one, other, msg=lambda m, n=name: f'{n} {m}')


def spy(model, monkeypatch):
    """Arguments of the calls of the classification loss."""
    calls = []
    loss = model.roi_head.bbox_head.loss_cls
    forward = loss.forward

    def record(*args, **kwargs):
        calls.append((args, kwargs))
        return forward(*args, **kwargs)

    monkeypatch.setattr(loss, 'forward', record)
    return calls


@pytest.mark.parametrize(
    'loss_cls', [CROSS_ENTROPY, dict(type=OURS + 'SeesawLoss', num_classes=C)]
)
def test_nothing_asked_for_is_the_stock_head_exactly(loss_cls):
    images, samples = batch(3, C)
    expected = losses_of(stock(loss_cls), images, samples)
    assert_same(losses_of(detector(loss_cls), images, samples), expected, exact=True)


def test_weights_of_one_leave_the_stock_losses():
    images, samples = batch(3, C)
    trivial = [dict(ISR_P, gamma=0.0), dict(ISR_N, gamma=0.0)]
    for loss_cls in (
        CROSS_ENTROPY,
        dict(type='SeesawLoss', num_classes=C, p=0.8, q=2.0),
        dict(type='CrossEntropyLoss', use_sigmoid=False, class_weight=[2.0] * (C + 1)),
    ):
        losses = losses_of(
            detector(loss_cls, importance_weights=trivial), images, samples
        )
        expected = losses_of(stock(loss_cls), images, samples)
        if 'loss_cls_classes' in expected:
            expected['loss_cls'] = expected.pop('loss_cls_classes') + expected.pop(
                'loss_cls_objectness'
            )
            expected = {key: expected[key] for key in losses}
        assert_same(losses, expected)


def test_importance_preserves_the_loss_but_not_its_gradient():
    images, samples = batch(4, C)
    plain = detector()
    weighted = detector(importance_weights=[ISR_P, ISR_N])
    expected = losses_of(plain, images, samples)
    losses = losses_of(weighted, images, samples)
    torch.testing.assert_close(losses['loss_cls'], expected['loss_cls'])
    grads = [
        torch.autograd.grad(each['loss_cls'], model.roi_head.bbox_head.fc_cls.weight)[0]
        for model, each in ((plain, expected), (weighted, losses))
    ]
    assert (grads[0] - grads[1]).abs().max() > 1e-6


def weights_by_hand(num_images, seed=0):
    """RoI head of ours and of the host on the same sampling results."""
    model = detector(importance_weights=[ISR_P], seed=seed)
    images, samples = batch(num_images, C, seed=seed)
    return model, images, samples


def run_isr(model, images, samples, order=None):
    """Label weights of ISR-P, ours and the host's, image by image."""
    head = model.roi_head
    torch.manual_seed(3)
    feats = model.extract_feat(images)
    proposals = model.rpn_head.predict(feats, samples, rescale=False)
    gts = [sample.gt_instances for sample in samples]
    results = head.sample(
        feats, [p.clone() for p in proposals], gts, [None] * len(samples)
    )
    if order is not None:
        feats = [level[order] for level in feats]
        results = [results[i] for i in order]
        gts = [gts[i] for i in order]
    rois = bbox2roi([result.priors for result in results])
    outputs = head._bbox_forward(feats, rois)
    targets = head.bbox_head.get_targets(results, head.train_cfg)
    metas = [sample.metainfo for sample in samples]
    regions = head._regions(outputs, rois, targets, results, gts, metas)
    loss = head.bbox_head.loss_cls
    rows = loss(
        regions.cls_score,
        regions.labels,
        regions.label_weights,
        reduction_override='none',
    )
    ours = head.region_losses.importance_weights[0](regions, rows.detach())
    host = isr_p(
        outputs['cls_score'],
        outputs['bbox_pred'],
        [target.clone() for target in targets],
        rois,
        results,
        loss,
        head.bbox_head.bbox_coder,
        num_class=C,
    )[1]
    sizes = [len(result.priors) for result in results]
    return ours.split(sizes), host.split(sizes)


def test_isr_p_equals_the_host_on_two_images():
    ours, host = run_isr(*weights_by_hand(2))
    for mine, theirs in zip(ours, host, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-4, atol=1e-5)


def test_permuting_three_images_permutes_our_weights_and_not_the_hosts():
    model, images, samples = weights_by_hand(3)
    order = [2, 0, 1]
    ours, host = run_isr(model, images, samples)
    ours_moved, host_moved = run_isr(model, images, samples, order)
    for i, j in enumerate(order):
        torch.testing.assert_close(ours_moved[i], ours[j], rtol=1e-4, atol=1e-5)
    # The host numbers the ground truths of image 3 as those of image 1.
    assert any(
        not torch.allclose(host_moved[i], host[j], rtol=1e-3)
        for i, j in enumerate(order)
    )


def test_label_sets_reach_the_loss_in_the_order_of_the_positives(monkeypatch):
    loss_cls = dict(type=OURS + 'MultiLabelSigmoidLoss', num_classes=C)
    model = detector(loss_cls)
    calls = spy(model, monkeypatch)
    images, samples = batch(3, C, multi_labels=True)
    # A class tells the label set: what is gathered can be checked from the labels.
    table = torch.rand(C, C) < 0.4
    table |= torch.eye(C, dtype=torch.bool)
    for sample in samples:
        sample.gt_instances.multi_labels = table[sample.gt_instances.labels]
    losses_of(model, images, samples)
    (_, target, _), _ = calls[0]
    assert isinstance(target, MultiLabelTarget)
    positive = target.labels < C
    assert positive.any()
    assert torch.equal(target.pos_inds, positive.nonzero().squeeze(1))
    assert torch.equal(target.multi_labels, table[target.labels[positive]])


def test_without_label_sets_the_labels_decide(monkeypatch):
    model = detector(dict(type=OURS + 'MultiLabelSigmoidLoss', num_classes=C))
    calls = spy(model, monkeypatch)
    images, samples = batch(3, C)
    losses = losses_of(model, images, samples)
    (_, target, _), _ = calls[0]
    assert isinstance(target, torch.Tensor)
    other = stock(dict(type=OURS + 'MultiLabelSigmoidLoss', num_classes=C))
    assert_same(losses, losses_of(other, images, samples))


def test_an_image_without_objects_needs_no_label_sets():
    model = detector(dict(type=OURS + 'MultiLabelSigmoidLoss', num_classes=C))
    images, samples = batch(3, C, multi_labels=True, objects=[2, 0, 3])
    del samples[1].gt_instances.multi_labels
    assert total(losses_of(model, images, samples)).isfinite()
    images, samples = batch(3, C, multi_labels=True)
    del samples[1].gt_instances.multi_labels
    with pytest.raises(ValueError, match='PackMultiLabelDetInputs'):
        losses_of(model, images, samples)


def test_quality_is_the_iou_of_the_predicted_box(monkeypatch):
    model = detector(dict(type=OURS + 'QualityFocalLoss', num_classes=C))
    with torch.no_grad():
        # Predicts no change: the quality is the IoU of the proposal itself.
        model.roi_head.bbox_head.fc_reg.weight.zero_()
    calls = spy(model, monkeypatch)
    images, samples = batch(3, C)
    losses_of(model, images, samples)
    (_, (labels, quality), _), _ = calls[0]
    positive = labels < C
    assert (quality[~positive] == 0).all()
    # Assigned at IoU 0.5; ground truths are proposals themselves.
    assert (quality[positive] > 0.49).all()
    assert (quality[positive] > 0.999).sum() >= 9


def test_carl_pulls_scores_and_weighs_the_sum_of_positives():
    images, samples = batch(3, C)
    model = detector(extra_losses=[CARL])
    losses = losses_of(model, images, samples)
    (grad,) = torch.autograd.grad(
        losses['loss_carl'], model.roi_head.bbox_head.fc_cls.weight, retain_graph=True
    )
    assert grad.abs().sum() > 0
    # At k = 0 all weights are 1: it is the regression loss again.
    flat = losses_of(detector(extra_losses=[dict(CARL, k=0.0)]), images, samples)
    torch.testing.assert_close(flat['loss_carl'], flat['loss_bbox'])


def distributed(cfg, agnostic=True):
    cfg.roi_head.bbox_head.update(
        reg_decoded_bbox=True,
        reg_class_agnostic=agnostic,
        bbox_coder=dict(
            _delete_=True,
            type=OURS + 'DistributionBBoxCoder',
            coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_max=8,
        ),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    )
    cfg.roi_head.bbox_head.bbox_coder.pop('_delete_')


@pytest.mark.parametrize('agnostic', [True, False])
def test_distributions_train_and_predict(agnostic):
    model = detector(
        dict(type=OURS + 'QualityFocalLoss', num_classes=C),
        change=lambda cfg: distributed(cfg, agnostic),
        extra_losses=[dict(type=OURS + 'DistributionFocalLoss')],
        score_weighted_regression=True,
    )
    images, samples = batch(3, C)
    losses = losses_of(model, images, samples)
    assert {'loss_dfl', 'loss_bbox', 'loss_cls'} <= set(losses)
    total(losses).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert model.roi_head.bbox_head.fc_reg.weight.grad.abs().sum() > 0
    results = model.eval().predict(images, samples)
    assert all(r.pred_instances.bboxes.isfinite().all() for r in results)


def test_uniform_scores_leave_the_box_loss():
    images, samples = batch(3, C)
    model, other = detector(score_weighted_regression=True), stock()
    for each in (model, other):
        with torch.no_grad():
            each.roi_head.bbox_head.fc_cls.weight.zero_()
    torch.testing.assert_close(
        losses_of(model, images, samples)['loss_bbox'],
        losses_of(other, images, samples)['loss_bbox'],
    )


class EvenOverBatch:
    """Positive sampler of the batch that always takes the first positives."""

    scope = 'batch'

    def __init__(self):
        self.seen = []

    def sample_batch_pos(self, labels, num_expected):
        self.seen.append((labels, num_expected))
        return [torch.arange(min(len(each), i + 1)) for i, each in enumerate(labels)]


def test_positives_of_the_batch_are_picked_together():
    model = detector()
    head = model.roi_head
    head.bbox_sampler.pos_sampler = EvenOverBatch()
    images, samples = batch(3, C)
    feats = model.extract_feat(images)
    proposals = model.rpn_head.predict(feats, samples, rescale=False)
    gts = [sample.gt_instances for sample in samples]
    results = head.sample(feats, [p.clone() for p in proposals], gts, [None] * 3)
    ((labels, num_expected),) = head.bbox_sampler.pos_sampler.seen
    assert num_expected == 3 * int(32 * 0.25)
    for i, (result, each, gt) in enumerate(zip(results, labels, gts, strict=True)):
        # Ground truths come first, as the host numbers them.
        assert torch.equal(each[:3], gt.labels)
        assert torch.equal(result.pos_inds, torch.arange(i + 1))
        assert torch.equal(result.pos_gt_labels, gt.labels[: i + 1])
        assert len(result.neg_inds) <= 32 - (i + 1)
    assert total(losses_of(model, images, samples)).isfinite()


def test_candidates_are_numbered_as_the_host_samples_them():
    model = detector()
    head = model.roi_head
    images, samples = batch(2, C)
    feats = model.extract_feat(images)
    proposals = model.rpn_head.predict(feats, samples, rescale=False)
    for proposal, sample in zip(proposals, samples, strict=True):
        proposal.priors = proposal.pop('bboxes')
        gt = sample.gt_instances
        assigned = head.bbox_assigner.assign(proposal, gt)
        inds, labels = positive_candidates(head.bbox_sampler, assigned, gt.labels)
        assigned.add_gt_(gt.labels)
        expected = (assigned.gt_inds > 0).nonzero().squeeze(1)
        assert torch.equal(inds, expected)
        assert torch.equal(labels, assigned.labels[expected])


def test_no_objects_at_all_trains():
    model = detector(
        dict(type=OURS + 'QualityFocalLoss', num_classes=C),
        importance_weights=[ISR_P, ISR_N],
        extra_losses=[CARL],
    )
    images, samples = batch(3, C, objects=0)
    losses = losses_of(model, images, samples)
    value = total(losses)
    value.backward()
    assert value.isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ('head', 'change', 'message'),
    [
        (dict(extra_losses=[CARL]), 'iou', 'L1-type'),
        (dict(extra_losses=[CARL]), 'ghm', 'GHMRegressionLoss'),
        (
            dict(extra_losses=[dict(type=OURS + 'DistributionFocalLoss')]),
            None,
            'DistributionBBoxCoder',
        ),
        (dict(), 'coder', 'reg_decoded_bbox'),
        (dict(importance_weights=[ISR_P]), 'eqlv2', 'importance weights'),
        (dict(importance_weights=ISR_P), None, 'list'),
        (dict(extra_losses=[dict(type='L1Loss')]), None, 'no extra loss'),
    ],
)
def test_what_cannot_combine_says_so_when_it_is_built(head, change, message):
    def edit(cfg):
        bbox_head = cfg.roi_head.bbox_head
        if change == 'iou':
            bbox_head.update(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss'))
        if change == 'ghm':
            bbox_head.update(loss_bbox=dict(type=OURS + 'GHMRegressionLoss'))
        if change == 'coder':
            bbox_head.update(bbox_coder=dict(type=OURS + 'DistributionBBoxCoder'))
        if change == 'eqlv2':
            bbox_head.update(loss_cls=dict(type='EQLV2Loss', num_classes=C))

    with pytest.raises(ValueError, match=message):
        detector(change=edit, **head)


def test_an_unknown_kind_of_target_is_named():
    loss = type('Odd', (torch.nn.Module,), {'target_kind': 'odd'})
    MODELS.register_module(name='OddTargetLoss', module=loss, force=True)
    try:
        with pytest.raises(ValueError, match="'odd'"):
            detector(dict(type=OURS + 'OddTargetLoss'))
    finally:
        MODELS._module_dict.pop('OddTargetLoss')


def test_a_cascade_is_refused():
    init_default_scope('mmdet')
    with pytest.raises(ValueError, match='CascadeRoIHead'):
        MODELS.build(dict(type=OURS + 'ImbalanceRoIHead', bbox_head=[dict(), dict()]))
