import math

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mmdet_imbalance.models.layers.prior_bias_linear import prior_bias
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing import small_detector_cfg

LOSS = dict(type='mmdet_imbalance.ClassBalancedFocalLoss')
STOCK_LOSS = dict(type='mmdet.CrossEntropyLoss')


@pytest.mark.parametrize('num_classes', [2, 3, 80, 1203])
def test_the_prior_is_one_of_c(num_classes):
    prob = torch.tensor(prior_bias(num_classes), dtype=torch.float64).sigmoid()
    assert float(prob) == pytest.approx(1 / num_classes)


def test_one_class_has_a_finite_prior():
    assert prior_bias(1) == 0.0
    with pytest.raises(ValueError, match='num_classes'):
        prior_bias(0)


def detector(kind, num_classes=5):
    loss = dict(LOSS, num_classes=num_classes, use_sigmoid=True)
    cfg = small_detector_cfg(kind, loss, num_classes)
    if kind == 'retinanet':
        cfg.bbox_head.init_cfg = dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(
                type='Normal', name='retina_cls', std=0.01, bias_prob=1 / num_classes
            ),
        )
    else:
        heads = cfg.roi_head.bbox_head
        for head in heads if isinstance(heads, list) else [heads]:
            head.cls_predictor_cfg = dict(type='mmdet_imbalance.PriorBiasLinear')
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def classifiers(model, kind):
    if kind == 'retinanet':
        return {'bbox_head.retina_cls': model.bbox_head.retina_cls}
    if kind == 'faster_rcnn':
        return {'roi_head.bbox_head.fc_cls': model.roi_head.bbox_head.fc_cls}
    return {
        f'roi_head.bbox_head.{k}.fc_cls': head.fc_cls
        for k, head in enumerate(model.roi_head.bbox_head)
    }


@pytest.mark.parametrize('kind', ['faster_rcnn', 'cascade_rcnn', 'retinanet'])
def test_bias_after_the_hosts_initialisation_and_its_decay(kind):
    model = detector(kind)
    found = classifiers(model, kind)
    for layer in found.values():
        torch.testing.assert_close(
            layer.bias, torch.full_like(layer.bias, -math.log(4))
        )
        assert 0.005 < float(layer.weight.std()) < 0.02
    key = 'retina_cls.bias' if kind == 'retinanet' else 'fc_cls.bias'
    optimizer = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
            paramwise_cfg=dict(custom_keys={key: dict(decay_mult=0.0)}),
        ),
    ).optimizer
    exempt = {f'{name}.bias' for name in found}
    decay_of = {
        id(param): group['weight_decay']
        for group in optimizer.param_groups
        for param in group['params']
    }
    for name, param in model.named_parameters():
        if param.requires_grad:
            expected = 0.0 if name in exempt else 1e-4
            assert decay_of[id(param)] == pytest.approx(expected), name


def test_scores_start_near_one_of_c():
    model = detector('faster_rcnn', num_classes=10)
    head = model.roi_head.bbox_head
    logits = head.fc_cls(torch.zeros(3, head.fc_cls.in_features))
    scores = head.loss_cls.eval().scores(logits)[:, :-1]
    torch.testing.assert_close(scores, torch.full_like(scores, 0.1))
