from unittest.mock import patch

import pytest
import torch
from mmdet.registry import MODELS as HOST_MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from mmdet_imbalance.functional import (
    gaussian_affinity,
    max_margin_affinity_loss,
    prototype_diversity,
)
from mmdet_imbalance.models.losses.affinity import AffinityLoss, AffinityPredictor

C = 4


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    return AffinityPredictor(
        32, C + 2, embed_dims=8, num_prototypes=2, num_bg_prototypes=3
    )


def test_columns_are_the_functional_similarities_and_the_diversity(predictor):
    x = torch.randn(6, 32)
    out = predictor(x)
    want = gaussian_affinity(
        predictor.embed(x), predictor.prototypes, predictor.prototype_class, 8.0
    )
    torch.testing.assert_close(out[:, :-1], want)
    num = 2 * C + 3
    diversity = prototype_diversity(predictor.prototypes) / (
        num * (num - 1) / 2 * 8.0**2
    )
    torch.testing.assert_close(out[:, -1], diversity.expand(6))


@pytest.mark.parametrize('embed_dims', [8, 128, 1024])
def test_gradients_are_alive_in_any_dimension(embed_dims):
    torch.manual_seed(0)
    predictor = AffinityPredictor(1024, C + 2, embed_dims=embed_dims)
    loss = AffinityLoss(C, diversity_weight=0.0)
    x = torch.randn(16, 1024) * 30
    out = predictor(x)
    # At unit variance the squared distance is about 2 D: exp(-2) where sigma is D.
    assert 0.01 < out[:, :-1].median() < 0.7
    loss(out, torch.arange(16) % (C + 1)).backward()
    for parameter in (predictor.prototypes, predictor.embedding.weight):
        assert parameter.grad.norm() > 1e-4


def test_the_papers_width_underflows_at_1024_dimensions():
    torch.manual_seed(0)
    predictor = AffinityPredictor(1024, C + 2, embed_dims=1024, sigma=10.0)
    out = predictor(torch.randn(16, 1024))
    assert out[:, :-1].max() == 0.0


@pytest.mark.parametrize('weight', [3.0, 0.0])
def test_loss_is_hinge_plus_one_diversity_for_a_box_heads_average(predictor, weight):
    loss = AffinityLoss(C, margin=0.6, diversity_weight=weight)
    out = predictor(torch.randn(10, 32))
    labels = torch.arange(10) % (C + 1)
    got = loss(out, labels, torch.ones(10), avg_factor=10.0)
    hinge = max_margin_affinity_loss(out[:, :-1], labels, 0.6).mean()
    torch.testing.assert_close(got, hinge + weight * out[0, -1])


def test_a_roi_that_meets_the_margin_scores_nine_tenths():
    for num_classes in (1, 20, 1203):
        loss = AffinityLoss(num_classes, margin=0.4)
        similarity = torch.full((1, num_classes + 2), 0.3)
        similarity[0, 0] = 0.7
        scores = loss.get_activation(similarity)
        assert scores.shape == (1, num_classes + 1)
        assert scores[0, 0].item() == pytest.approx(0.9, abs=1e-4)


def test_training_the_diversity_makes_prototypes_equidistant(predictor):
    optimizer = torch.optim.Adam([predictor.prototypes], lr=0.05)
    x = torch.zeros(1, 32)
    before = prototype_diversity(predictor.prototypes)
    for _ in range(200):
        optimizer.zero_grad()
        predictor(x)[:, -1].sum().backward()
        optimizer.step()
    # 11 prototypes in 8 dimensions cannot be equidistant, but nearly so.
    assert prototype_diversity(predictor.prototypes) < 0.2 * before


def test_the_stock_box_head_calls_every_hook():
    init_default_scope('mmdet')
    head = HOST_MODELS.build(
        dict(
            type='Shared2FCBBoxHead',
            in_channels=4,
            fc_out_channels=16,
            roi_feat_size=3,
            num_classes=C,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            cls_predictor_cfg=dict(
                type='mmdet_imbalance.AffinityPredictor', embed_dims=8
            ),
            loss_cls=dict(type='mmdet_imbalance.AffinityLoss', num_classes=C),
        )
    )
    head.init_weights()
    loss = head.loss_cls
    num = 12
    cls_score, bbox_pred = head(torch.randn(num, 4, 3, 3))
    assert cls_score.shape == (num, C + 2)
    labels = torch.arange(num) % (C + 1)
    rois = torch.tensor([[0.0, 2, 2, 20, 20]]).repeat(num, 1)
    with (
        patch.object(loss, 'get_accuracy', wraps=loss.get_accuracy) as accuracy,
        patch.object(loss, 'get_activation', wraps=loss.get_activation) as activation,
    ):
        losses = head.loss(
            cls_score,
            bbox_pred,
            rois,
            labels,
            torch.ones(num),
            torch.zeros(num, 4),
            torch.ones(num, 4),
        )
        (result,) = head.predict_by_feat(
            (rois,),
            (cls_score,),
            (bbox_pred,),
            [dict(img_shape=(32, 32), scale_factor=(1, 1))],
            ConfigDict(
                score_thr=0.0, nms=dict(type='nms', iou_threshold=1.0), max_per_img=99
            ),
        )
    assert accuracy.call_count == activation.call_count == 1
    assert result.labels.max() < C
    torch.testing.assert_close(
        losses['loss_cls'],
        max_margin_affinity_loss(cls_score[:, :-1], labels, 0.5).mean()
        + cls_score[0, -1],
    )
    sum(losses[k] for k in ('loss_cls', 'loss_bbox')).backward()
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize(
    'kwargs', [dict(embed_dims=1), dict(num_prototypes=0), dict(sigma=-1.0)]
)
def test_bad_arguments_are_named(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        AffinityPredictor(8, C + 2, **kwargs)
    with pytest.raises(ValueError, match='margin'):
        AffinityLoss(C, margin=0.0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_keeps_the_distance_of_a_feature_near_its_prototype(dtype):
    predictor = AffinityPredictor(8, C + 2, embed_dims=128, sigma=0.5)
    embedding = 0.01 * torch.randn(6, 128) + predictor.prototypes[:1].detach()
    predictor.embed = lambda x: embedding
    with torch.autocast('cpu', dtype=dtype):
        got = predictor(torch.zeros(6, 8))
    torch.testing.assert_close(got, predictor(torch.zeros(6, 8)))
    assert 0.9 < got[:, 0].min() < got[:, 0].max() < 1.0
