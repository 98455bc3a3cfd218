"""Every classification loss with every importance and every form of label, trained.

A loss that is registered later is in these tests by itself.
"""

import copy

import pytest
import torch

import mmdet_imbalance.models  # noqa: F401
from mmdet_imbalance.models.losses import AffinityLoss
from mmdet_imbalance.models.losses.base import ClassificationLoss
from mmdet_imbalance.models.region_losses import RegionLosses
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing.demo_stats import demo_class_stats
from tests.helpers.detector_batches import batch, build_detector, losses_of, total

C = 5
OURS = 'mmdet_imbalance.'
#: All registered losses of the package, and those of the host that train stock heads.
LOSSES = {
    name: dict(type=OURS + name, num_classes=C)
    for name, cls in sorted(MODELS.module_dict.items())
    if issubclass(cls, ClassificationLoss)
}
LOSSES['ClassBalancedQuality'] = dict(
    type=OURS + 'QualityFocalLoss',
    num_classes=C,
    class_weight=dict(type='effective_num', beta=0.9),
)
HOST_LOSSES = {
    'faster_rcnn': {
        'host CrossEntropyLoss': dict(type='CrossEntropyLoss', use_sigmoid=False),
        'host SeesawLoss': dict(type='SeesawLoss', num_classes=C),
    },
    'retinanet': {
        'host FocalLoss': dict(type='FocalLoss', use_sigmoid=True),
        'host CrossEntropyLoss': dict(type='CrossEntropyLoss', use_sigmoid=True),
    },
}
ISR_P = dict(type=OURS + 'IoUHierarchicalWeight')
ISR_N = dict(type=OURS + 'ScoreHierarchicalWeight', score_thr=0.0, max_per_img=50)
CARL = dict(type=OURS + 'ClassificationAwareRegressionLoss')
IMPORTANCE = {
    'none': dict(),
    'ISR-P': dict(importance_weights=[ISR_P]),
    'ISR-P and CARL': dict(importance_weights=[ISR_P, ISR_N], extra_losses=[CARL]),
}
CASES = [
    (kind, name, cfg)
    for kind in ('faster_rcnn', 'retinanet')
    for name, cfg in (LOSSES | HOST_LOSSES[kind]).items()
    if not (kind == 'retinanet' and name == 'AffinityLoss')
]
BATCHES = [batch(3, C, multi_labels=is_multi) for is_multi in (False, True)]


def detector(kind, loss_cls):
    """A detector with the package's head, and that head."""

    def edit(cfg):
        if kind == 'faster_rcnn':
            cfg.roi_head.type = OURS + 'ImbalanceRoIHead'
            if loss_cls['type'] == OURS + 'AffinityLoss':
                predictor = dict(type=OURS + 'AffinityPredictor', embed_dims=8)
                cfg.roi_head.bbox_head.cls_predictor_cfg = predictor
        else:
            cfg.bbox_head.type = OURS + 'ImbalanceRetinaHead'

    model = build_detector(kind, dict(loss_cls), C, edit)
    for module in model.modules():
        if hasattr(module, 'set_class_stats'):
            module.set_class_stats(demo_class_stats(C))
    return model, model.roi_head if kind == 'faster_rcnn' else model.bbox_head


@pytest.mark.parametrize(('kind', 'name', 'loss_cls'), CASES)
def test_every_combination_trains(kind, name, loss_cls):
    model, head = detector(kind, loss_cls)
    start = copy.deepcopy(model.state_dict())
    part = head.bbox_head if kind == 'faster_rcnn' else head
    for importance, settings in IMPORTANCE.items():
        for is_multi, (images, samples) in enumerate(BATCHES):
            model.load_state_dict(start)
            # In place of building a model for each importance.
            head.region_losses = RegionLosses(**settings)
            head.region_losses.check_head(
                part.loss_cls, part.loss_bbox, part.bbox_coder, C
            )
            what = f'{kind}, {name}, {importance}, multi-label {bool(is_multi)}'
            train_three_iterations(model, images, samples, what)
    check_prediction(model, part, kind)


def train_three_iterations(model, images, samples, what):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(3):
        optimizer.zero_grad()
        losses = losses_of(model, images, samples, seed=step)
        value = total(losses)
        assert value.isfinite(), what
        value.backward()
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f'{what}: no gradient on {key}'
                assert parameter.grad.isfinite().all(), f'{what}: {key}'
        optimizer.step()


def check_prediction(model, part, kind):
    """Scores are those of the loss's own activation, over foreground classes."""
    images, samples = BATCHES[0]
    seen = []
    loss = part.loss_cls
    if getattr(loss, 'custom_activation', False):
        activation = loss.get_activation

        def record(logits):
            seen.append(activation(logits)[:, :C])
            return activation(logits)

        loss.get_activation = record
    with torch.no_grad():
        results = model.eval().predict(images, [sample.clone() for sample in samples])
    for result in results:
        found = result.pred_instances
        assert len(found) > 0
        assert found.labels.max() < C
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        if seen:
            best = torch.cat([scores.flatten() for scores in seen])
            gap = (best[None] - found.scores[:, None]).abs().amin(dim=1)
            assert gap.max() < 1e-5


def test_affinity_in_a_dense_head_says_why_not():
    assert issubclass(MODELS.get('AffinityLoss'), AffinityLoss)
    with pytest.raises(ValueError, match='AffinityPredictor'):
        detector('retinanet', LOSSES['AffinityLoss'])


@pytest.mark.parametrize('kind', ['faster_rcnn', 'retinanet'])
def test_the_missing_gradient_would_be_seen(kind):
    model, _ = detector(kind, LOSSES['MultiLabelSigmoidLoss'])
    images, samples = BATCHES[0]
    model.unused = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(AssertionError, match='no gradient on unused'):
        train_three_iterations(model, images, samples, kind)
