"""The host's own heads really call what a loss offers, in `loss` and in `predict`."""

import functools
from collections import Counter

import pytest
import torch
from mmdet.testing import demo_mm_inputs

from mmdet_imbalance.models.losses.base import ClassificationLoss
from mmdet_imbalance.registry import MODELS
from mmdet_imbalance.testing import demo_class_stats, small_detector_cfg
from tests.test_contracts import LOSSES

NUM_CLASSES = 5
#: Losses whose channels no stock dense head has, or whose logits come from their own
#: predictor.
BOX_HEAD_ONLY = {'SeesawLoss', 'AffinityLoss'}
SPIED = ('get_cls_channels', 'get_activation', 'get_accuracy', 'forward')


def build_detector(kind, name, **kwargs):
    loss = dict(
        type=f'mmdet_imbalance.{name}',
        num_classes=NUM_CLASSES,
        use_sigmoid=LOSSES[name].use_sigmoid,
        **kwargs,
    )
    cfg = small_detector_cfg(kind, loss, NUM_CLASSES)
    if name == 'AffinityLoss':
        heads = cfg.roi_head.bbox_head
        for head in heads if isinstance(heads, list) else [heads]:
            head.cls_predictor_cfg = dict(
                type='mmdet_imbalance.AffinityPredictor', embed_dims=8
            )
    model = MODELS.build(cfg)
    for module in model.modules():
        if isinstance(module, ClassificationLoss):
            module.set_class_stats(demo_class_stats(NUM_CLASSES))
    return model


@pytest.fixture
def calls(monkeypatch):
    """Counts calls of the hooks, on whatever loss."""
    counter = Counter()
    for cls in {ClassificationLoss, *LOSSES.values()}:
        for hook in SPIED:
            if hook not in cls.__dict__:
                continue

            def spy(self, *args, _cls=cls, _hook=hook, _original=None, **kwargs):
                # Not once more for a subclass that calls its base.
                owner = next(c for c in type(self).__mro__ if _hook in c.__dict__)
                counter[_hook] += owner is _cls
                return _original(self, *args, **kwargs)

            spy = functools.partialmethod(spy, _original=cls.__dict__[hook])

            monkeypatch.setattr(cls, hook, spy)
    return counter


def train_and_predict(model):
    torch.manual_seed(0)
    batch = demo_mm_inputs(2, [[3, 64, 64]] * 2, num_classes=NUM_CLASSES)
    model.train()
    losses, _ = model.parse_losses(
        model(**model.data_preprocessor(batch, True), mode='loss')
    )
    losses.backward()
    model.eval()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(batch, False), mode='predict')
    return losses, samples


@pytest.mark.parametrize('kind', ['faster_rcnn', 'cascade_rcnn', 'retinanet'])
@pytest.mark.parametrize('name', LOSSES)
def test_host_calls_every_hook(name, kind, calls):
    if kind == 'retinanet' and name in BOX_HEAD_ONLY:
        pytest.skip('for box heads only')
    num_heads = {'faster_rcnn': 1, 'cascade_rcnn': 3, 'retinanet': 0}[kind]
    model = build_detector(kind, name)
    # The host's box heads ask twice each; dense heads never do.
    assert calls['get_cls_channels'] == 2 * num_heads
    torch.manual_seed(0)
    batch = demo_mm_inputs(2, [[3, 64, 64]] * 2, num_classes=NUM_CLASSES)
    model.train()
    calls.clear()
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    if kind == 'retinanet':
        assert calls['forward'] >= 5
    else:
        assert calls['forward'] >= num_heads
        assert calls['get_accuracy'] == num_heads
        # Cascade refines boxes by the scores of all stages but the last.
        assert calls['get_activation'] == num_heads - 1
    total, _ = model.parse_losses(losses)
    assert total.isfinite()
    total.backward()
    model.eval()
    calls.clear()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(batch, False), mode='predict')
    assert calls['get_activation'] > 0
    assert calls['forward'] == 0
    for sample in samples:
        found = sample.pred_instances
        assert len(found) > 0
        assert (found.labels < NUM_CLASSES).all()
        assert ((found.scores > 0) & (found.scores <= 1)).all()


def test_scores_are_those_of_the_loss_and_not_a_softmax():
    """Predicted scores of a box head equal the loss's activation of its logits."""
    model = build_detector('faster_rcnn', 'MultiLabelSigmoidLoss').eval()
    seen = {}
    head = model.roi_head.bbox_head
    head.register_forward_hook(lambda _, __, out: seen.update(logits=out[0]))
    _, samples = train_and_predict(model)
    best = seen['logits'].sigmoid().max()
    scores = torch.cat([sample.pred_instances.scores for sample in samples])
    torch.testing.assert_close(scores.max(), best)


@pytest.mark.parametrize('name', ['ConcurrentSoftmaxLoss', 'DistributedSoftmaxLoss'])
def test_softmax_retinanet_has_a_background_channel_and_never_predicts_it(name):
    model = build_detector('retinanet', name)
    assert model.bbox_head.cls_out_channels == NUM_CLASSES + 1
    # Everything is background, surely: no class may be found above chance.
    bias = model.bbox_head.retina_cls.bias
    with torch.no_grad():
        bias.fill_(-10.0).view(-1, NUM_CLASSES + 1)[:, -1] = 10.0
    _, samples = train_and_predict(model)
    for sample in samples:
        assert (sample.pred_instances.labels < NUM_CLASSES).all()
        assert (sample.pred_instances.scores < 0.01).all()


def test_cascade_averages_logits_and_activates_once():
    model = build_detector('cascade_rcnn', 'ConcurrentSoftmaxLoss')
    model.eval()
    seen = []
    for head in model.roi_head.bbox_head:
        head.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    batch = demo_mm_inputs(1, [[3, 64, 64]], num_classes=NUM_CLASSES)
    with torch.no_grad():
        (sample,) = model(**model.data_preprocessor(batch, False), mode='predict')
    mean = sum(seen) / 3
    scores = model.roi_head.bbox_head[-1].loss_cls.scores(mean)[:, :-1]
    torch.testing.assert_close(sample.pred_instances.scores.max(), scores.max())


def test_a_sigmoid_loss_without_use_sigmoid_in_a_dense_head_says_what_to_write():
    cfg = small_detector_cfg(
        'retinanet',
        dict(type='mmdet_imbalance.MultiLabelSigmoidLoss', num_classes=NUM_CLASSES),
        NUM_CLASSES,
    )
    model = MODELS.build(cfg)
    with pytest.raises(ValueError, match='use_sigmoid=True'):
        train_and_predict(model)


def test_class_counts_that_do_not_agree():
    cfg = small_detector_cfg(
        'faster_rcnn',
        dict(type='mmdet_imbalance.MultiLabelSigmoidLoss', num_classes=7),
        NUM_CLASSES,
    )
    with pytest.raises(Exception, match=r'num_classes=7.*num_classes=5'):
        MODELS.build(cfg)


def test_a_checkpoint_of_a_detector_brings_the_statistics(tmp_path):
    trained = build_detector('faster_rcnn', 'ConcurrentSoftmaxLoss')
    torch.save(trained.state_dict(), tmp_path / 'model.pth')
    cfg = small_detector_cfg(
        'faster_rcnn',
        dict(type='mmdet_imbalance.ConcurrentSoftmaxLoss', num_classes=NUM_CLASSES),
        NUM_CLASSES,
    )
    fresh = MODELS.build(cfg)
    fresh.load_state_dict(torch.load(tmp_path / 'model.pth', weights_only=True))
    logits = torch.randn(4, NUM_CLASSES + 1)
    torch.testing.assert_close(
        fresh.roi_head.bbox_head.loss_cls.get_activation(logits),
        trained.roi_head.bbox_head.loss_cls.get_activation(logits),
    )
