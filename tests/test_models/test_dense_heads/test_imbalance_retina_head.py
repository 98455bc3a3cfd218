"""The dense head: stock when nothing is asked for, and each thing that can be asked."""

import pytest
import torch

from mmdet_imbalance.core.ghm import ghm_c_loss
from mmdet_imbalance.core.label_sets import MultiLabelTarget
from tests.helpers.detector_batches import batch, build_detector, losses_of, total

C = 4
OURS = 'mmdet_imbalance.'
FOCAL = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)
OUR_FOCAL = dict(type=OURS + 'MultiLabelFocalLoss', num_classes=C, use_sigmoid=True)
GHM_C = dict(type=OURS + 'GHMClassificationLoss', num_classes=C, momentum=0.0)
QFL = dict(type=OURS + 'QualityFocalLoss', num_classes=C)
ISR_P = dict(type=OURS + 'IoUHierarchicalWeight')
ISR_N = dict(type=OURS + 'ScoreHierarchicalWeight', score_thr=0.0, max_per_img=50)
CARL = dict(type=OURS + 'ClassificationAwareRegressionLoss')


def detector(loss_cls=None, change=None, seed=0, **head):
    def edit(cfg):
        cfg.bbox_head.update(type=OURS + 'ImbalanceRetinaHead', **head)
        if change is not None:
            change(cfg)

    return build_detector('retinanet', loss_cls or FOCAL, C, edit, seed)


def stock(loss_cls=None, change=None, seed=0):
    return build_detector('retinanet', loss_cls or FOCAL, C, change, seed)


def spy(model, monkeypatch, name='loss_cls'):
    calls = []
    loss = getattr(model.bbox_head, name)
    forward = loss.forward

    def record(*args, **kwargs):
        calls.append((args, kwargs))
        return forward(*args, **kwargs)

    monkeypatch.setattr(loss, 'forward', record)
    return calls


def test_nothing_asked_for_is_the_stock_head_exactly():
    images, samples = batch(3, C)
    losses = losses_of(detector(), images, samples)
    expected = losses_of(stock(), images, samples)
    assert list(losses) == list(expected)
    for name in losses:
        for one, other in zip(losses[name], expected[name], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    'loss_cls', [OUR_FOCAL, dict(type=OURS + 'MultiLabelSigmoidLoss', num_classes=C)]
)
def test_levels_together_sum_to_the_stock_levels(loss_cls):
    images, samples = batch(3, C)
    loss_cls = dict(loss_cls, use_sigmoid=True)
    losses = losses_of(detector(loss_cls), images, samples)
    expected = losses_of(stock(loss_cls), images, samples)
    for name in expected:
        torch.testing.assert_close(losses[name], sum(expected[name]))
    apart = losses_of(detector(loss_cls, joint_levels=False), images, samples)
    for name in expected:
        torch.testing.assert_close(
            torch.stack(apart[name]), torch.stack(expected[name])
        )


def test_our_focal_in_our_head_is_the_hosts_focal_in_the_hosts():
    images, samples = batch(3, C)
    losses = losses_of(detector(OUR_FOCAL), images, samples)
    expected = losses_of(stock(), images, samples)
    torch.testing.assert_close(losses['loss_cls'], sum(expected['loss_cls']))
    torch.testing.assert_close(losses['loss_bbox'], sum(expected['loss_bbox']))


def test_weights_of_one_leave_the_stock_losses():
    images, samples = batch(3, C)
    trivial = [dict(ISR_P, gamma=0.0), dict(ISR_N, gamma=0.0)]
    losses = losses_of(detector(importance_weights=trivial), images, samples)
    expected = losses_of(stock(), images, samples)
    for name in expected:
        torch.testing.assert_close(losses[name], sum(expected[name]))


def test_importance_preserves_the_loss_but_not_its_gradient():
    images, samples = batch(3, C)
    models = detector(importance_weights=[ISR_P, ISR_N]), stock()
    losses = [losses_of(model, images, samples)['loss_cls'] for model in models]
    losses[1] = sum(losses[1])
    torch.testing.assert_close(*losses)
    grads = [
        torch.autograd.grad(loss, model.bbox_head.retina_cls.weight)[0]
        for loss, model in zip(losses, models, strict=True)
    ]
    assert (grads[0] - grads[1]).abs().max() > 1e-6


def test_permuting_three_images_leaves_the_losses():
    images, samples = batch(3, C)
    model = detector(
        importance_weights=[ISR_P, ISR_N], extra_losses=[CARL], loss_cls=QFL
    )
    losses = losses_of(model, images, samples)
    order = [2, 0, 1]
    model.bbox_head.eval()
    moved = losses_of(model, images[order], [samples[i] for i in order])
    # Batch norm in the backbone sees the same batch.
    for name in losses:
        torch.testing.assert_close(moved[name], losses[name], rtol=1e-4, atol=1e-5)


def test_ghm_sees_one_density_over_all_levels(monkeypatch):
    model = detector(GHM_C)
    calls = spy(model, monkeypatch)
    images, samples = batch(3, C)
    losses = losses_of(model, images, samples)
    ((logits, target, weight), kwargs) = calls[0]
    assert len(calls) == 1
    assert kwargs['avg_factor'] is None
    one_hot = torch.nn.functional.one_hot(target, C + 1)[:, :C]
    valid = (weight > 0)[:, None].expand(-1, C)
    expected, _ = ghm_c_loss(logits, one_hot, valid)
    torch.testing.assert_close(losses['loss_cls'], expected)


def test_ghm_by_level_is_the_hosts_way(monkeypatch):
    images, samples = batch(3, C)
    losses = losses_of(detector(GHM_C, joint_levels=False), images, samples)
    host = dict(type='GHMC', bins=30, momentum=0, use_sigmoid=True)
    expected = losses_of(stock(host), images, samples)
    torch.testing.assert_close(
        torch.stack(losses['loss_cls']), torch.stack(expected['loss_cls'])
    )


def test_ghm_regression_is_averaged_over_the_positives(monkeypatch):
    def edit(cfg):
        cfg.bbox_head.update(
            loss_bbox=dict(type=OURS + 'GHMRegressionLoss', loss_weight=10.0)
        )

    model = detector(GHM_C, change=edit)
    calls = spy(model, monkeypatch, 'loss_bbox')
    images, samples = batch(3, C)
    losses_of(model, images, samples)
    ((_, _, weight), kwargs) = calls[0]
    assert kwargs['avg_factor'] is None
    assert (weight == 1).all()
    # Reached without positives too, or ranks would wait for each other.
    calls.clear()
    images, samples = batch(3, C, objects=0)
    assert total(losses_of(model, images, samples)).isfinite()
    assert len(calls) == 1


@pytest.mark.parametrize('joint_levels', [True, False])
def test_label_sets_reach_the_loss_in_the_order_of_the_positives(
    monkeypatch, joint_levels
):
    model = detector(OUR_FOCAL, joint_levels=joint_levels)
    calls = spy(model, monkeypatch)
    images, samples = batch(3, C, multi_labels=True)
    table = (torch.rand(C, C) < 0.4) | torch.eye(C, dtype=torch.bool)
    for sample in samples:
        sample.gt_instances.multi_labels = table[sample.gt_instances.labels]
    losses_of(model, images, samples)
    num_positive = 0
    for (_, target, _), _ in calls:
        assert isinstance(target, MultiLabelTarget)
        positive = target.labels < C
        num_positive += int(positive.sum())
        assert torch.equal(target.pos_inds, positive.nonzero().squeeze(1))
        assert torch.equal(target.multi_labels, table[target.labels[positive]])
    assert num_positive > 0


def test_quality_is_the_iou_of_the_predicted_box(monkeypatch):
    from mmdet.structures.bbox import bbox_overlaps

    model = detector(QFL)
    with torch.no_grad():
        model.bbox_head.retina_reg.weight.zero_()
    calls = spy(model, monkeypatch)
    images, samples = batch(3, C)
    losses_of(model, images, samples)
    (_, (labels, quality), _), _ = calls[0]
    head = model.bbox_head
    sizes = [tuple(f.shape[-2:]) for f in model.extract_feat(images)]
    anchors = torch.cat(head.prior_generator.grid_priors(sizes, device='cpu'))
    for i, part in enumerate(zip(labels.chunk(3), quality.chunk(3), strict=True)):
        gt = samples[i].gt_instances
        positive = part[0] < C
        iou = bbox_overlaps(anchors[positive], gt.bboxes)
        # Where no box is changed, each positive's quality is its IoU with an object.
        close = (iou - part[1][positive][:, None]).abs().min(dim=1).values
        assert close.max() < 1e-5
        assert (part[1][~positive] == 0).all()


@pytest.mark.parametrize(
    'loss_cls',
    [
        dict(type=OURS + 'ClassBalancedSoftmaxLoss', beta=0.9, num_classes=C),
        dict(type=OURS + 'DistributedSoftmaxLoss', num_classes=C),
        dict(type=OURS + 'ConcurrentSoftmaxLoss', concurrent_rate=0, num_classes=C),
    ],
)
def test_softmax_has_a_background_that_is_never_detected(loss_cls, class_stats):
    model = detector(loss_cls)
    for module in model.modules():
        if hasattr(module, 'set_class_stats'):
            module.set_class_stats(class_stats)
    assert model.bbox_head.cls_out_channels == C + 1
    images, samples = batch(3, C)
    assert total(losses_of(model, images, samples)).isfinite()
    with torch.no_grad():
        bias = model.bbox_head.retina_cls.bias.view(-1, C + 1)
        bias[:, -1] += 3
    results = model.eval().predict(images, samples)
    for result in results:
        assert len(result.pred_instances) > 0
        assert result.pred_instances.labels.max() < C
        # Softmax with that background, not sigmoid.
        assert result.pred_instances.scores.max() < 0.3


@pytest.fixture
def class_stats():
    from types import SimpleNamespace

    counts = torch.tensor([9, 5, 2, 1]).numpy()
    return SimpleNamespace(
        img_count=counts,
        instance_count=counts,
        ancestor_matrix=torch.eye(C, dtype=torch.bool).numpy(),
    )


def distributed(cfg, inner):
    cfg.bbox_head.update(
        reg_decoded_bbox=True,
        bbox_coder=dict(type=OURS + 'DistributionBBoxCoder', coder=inner, reg_max=8),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    )


def test_foreground_of_a_softmax_starts_with_the_prior_of_a_sigmoid():
    softmax = dict(
        type=OURS + 'ConcurrentSoftmaxLoss',
        num_classes=C,
        concurrent_rate=None,
        use_sigmoid=False,
    )
    model = detector(softmax)
    model.init_weights()
    bias = model.bbox_head.retina_cls.bias.detach().view(-1, C + 1)
    prior = stock().bbox_head
    prior.init_weights()
    prior = prior.retina_cls.bias.detach()[0].sigmoid()
    foreground = bias.softmax(dim=1)[:, :C].sum(dim=1)
    torch.testing.assert_close(foreground, prior.expand_as(foreground))
    assert torch.equal(bias[:, :C], bias[:1, :1].expand_as(bias[:, :C]))


@pytest.mark.parametrize(
    'inner',
    [
        dict(type='DeltaXYWHBBoxCoder'),
        dict(type=OURS + 'PriorDistanceBBoxCoder'),
    ],
)
def test_distributions_learn_to_place_boxes(inner):
    model = detector(
        QFL,
        change=lambda cfg: distributed(cfg, inner),
        extra_losses=[dict(type=OURS + 'DistributionFocalLoss')],
        score_weighted_regression=True,
    )
    images, samples = batch(3, C)
    optimizer = torch.optim.Adam(model.bbox_head.parameters(), lr=0.01)
    history = []
    for _ in range(15):
        optimizer.zero_grad()
        losses = losses_of(model, images, samples)
        total(losses).backward()
        optimizer.step()
        history.append((losses['loss_bbox'].item(), losses['loss_dfl'].item()))
    assert history[-1][0] < 0.9 * history[0][0]
    assert history[-1][1] < 0.9 * history[0][1]
    results = model.eval().predict(images, samples)
    assert all(r.pred_instances.bboxes.isfinite().all() for r in results)


def test_no_objects_at_all_trains():
    model = detector(QFL, importance_weights=[ISR_P, ISR_N], extra_losses=[CARL])
    images, samples = batch(3, C, objects=0)
    value = total(losses_of(model, images, samples))
    value.backward()
    assert value.isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ('loss_cls', 'head', 'message'),
    [
        (dict(type='SeesawLoss', num_classes=C), {}, 'ImbalanceRoIHead'),
        (dict(OUR_FOCAL, num_classes=C + 1), {}, f'num_classes={C + 1}'),
        (
            OUR_FOCAL,
            dict(importance_weights=[ISR_P], joint_levels=False),
            'joint_levels',
        ),
        (
            FOCAL,
            dict(extra_losses=[dict(type=OURS + 'DistributionFocalLoss')]),
            'DistributionBBoxCoder',
        ),
    ],
)
def test_what_cannot_combine_says_so_when_it_is_built(loss_cls, head, message):
    with pytest.raises(ValueError, match=message):
        detector(loss_cls, **head)
