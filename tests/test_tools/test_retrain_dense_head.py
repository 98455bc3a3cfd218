"""tools/retrain_head.py on dense heads: gradients and boxes of the whole detector."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from mmdet_imbalance.cli.runs import load_checkpoint
from mmdet_imbalance.engine.frozen_forward import FrozenForward
from mmdet_imbalance.engine.head_retraining import (
    check_detector,
    retraining_config,
    set_flips,
)
from mmdet_imbalance.engine.head_weights import (
    FROZEN_PREFIXES,
    initialise,
    last_layer,
    tau_normalised,
)
from tests.helpers.shrunken_configs import shrink
from tests.helpers.tools import load_tool

STOCK = 'hdbpmn/retinanet_efficientnet-lite0_fpn_10e_hdbpmn.py'
SOFTMAX = 'hdbpmn/retinanet_efficientnet-lite0_fpn_concurrent-softmax_10e_hdbpmn.py'
BALANCED = (
    'class_balanced/retinanet_efficientnet-lite0_fpn_class-balanced-focal_10e_hdbpmn.py'
)
GHM = 'ghm/retinanet_efficientnet-lite0_fpn_ghm_10e_hdbpmn.py'
GFL_PARTS = 'gfl/retinanet_efficientnet-lite0_fpn_gfl_10e_hdbpmn.py'
GFL = 'gfl/gfl_efficientnet-lite0_fpn_10e_hdbpmn.py'
LAST_LAYER = 'bbox_head.retina_cls.'
#: Nothing moves, so that the figures are those of the weights a run starts with.
NO_STEP = 'optim_wrapper.optimizer.lr=0'


def build(config: Path) -> nn.Module:
    """Detector of a config, with its own initial weights; no run has this seed."""
    init_default_scope('mmdet')
    torch.manual_seed(1234)
    model = MODELS.build(Config.fromfile(str(config)).model)
    model.init_weights()
    return model


@pytest.fixture(scope='module')
def stock(tmp_path_factory) -> tuple[Path, Path]:
    """A shrunken stock config and a checkpoint whose classifier is not all alike."""
    folder = tmp_path_factory.mktemp('stock')
    config = shrink(STOCK, folder)
    model = build(config)
    nn.init.normal_(model.bbox_head.retina_cls.weight, std=0.2)
    checkpoint = folder / 'stock.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return config, checkpoint


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)
    )


def retrain(config: Path, checkpoint: Path, *argv: object) -> dict:
    """Weights that the tool leaves; the row must say what was asked for."""
    results = Path('rows.jsonl')
    args = [config, checkpoint, '--work-dir', 'run', '--results', results, *argv]
    assert load_tool('retrain_head').main([str(a) for a in args]) == 0
    row = json.loads(results.read_text().splitlines()[-1])
    assert row['metrics']
    (path,) = Path('run').glob('*.pth')
    return load_checkpoint(path)['state_dict']


def items(dataset: dict, num_items: int) -> dict:
    """A batch as the data loader collates it."""
    built = DATASETS.build(dataset)
    return pseudo_collate([built[index] for index in range(num_items)])


def both(config: Path, state: dict, folder: Path, classifier_only: bool = False):
    """The detector on pixels, the one on its cached features, and both configs."""
    cfg = Config.fromfile(str(config))
    frozen = FrozenForward(cfg, state, folder)
    train, val = (
        str(frozen.cache(cfg[f'{part}_dataloader'].dataset, part == 'train', False))
        for part in ('train', 'val')
    )
    cached_cfg = retraining_config(cfg, train, val, classifier_only)
    models = [MODELS.build(c.model) for c in (cfg, cached_cfg)]
    for model in models:
        model.load_state_dict(state, strict=False)
    pixels, cached = models
    pixels.eval()
    extract = pixels.extract_feat

    # The cache makes images one by one, and rounds to float16: no other difference.
    def rounded(images: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad():
            levels = [extract(image[None]) for image in images]
        return [torch.cat(level).half().float() for level in zip(*levels, strict=True)]

    pixels.extract_feat = rounded
    return pixels, cached.eval(), cfg, cached_cfg


def test_predictions_are_those_of_the_checkpoint(stock, tmp_path):
    state = load_checkpoint(stock[1])['state_dict']
    pixels, cached, cfg, cached_cfg = both(stock[0], state, tmp_path)
    found = []
    for model, config in ((pixels, cfg), (cached, cached_cfg)):
        data = items(config.val_dataloader.dataset, 1)
        with torch.no_grad():
            (sample,) = model.test_step(data)
        found.append(sample.pred_instances)
    assert len(found[0]) > 0
    for name in ('bboxes', 'scores', 'labels'):
        assert torch.equal(found[0][name], found[1][name]), name


@pytest.mark.parametrize('name', [STOCK, GHM, GFL_PARTS, GFL])
def test_gradients_are_those_of_the_frozen_detector(name, tmp_path):
    config = shrink(name, tmp_path)
    state = build(config).state_dict()
    pixels, cached, cfg, cached_cfg = both(config, state, tmp_path)
    gradients = []
    for model, its in ((pixels, cfg), (cached, cached_cfg)):
        data = items(set_flips(its.train_dataloader.dataset, 0.0), 2)
        model.bbox_head.train()
        losses, _ = model.parse_losses(
            model(**model.data_preprocessor(data, True), mode='loss')
        )
        losses.backward()
        gradients.append(
            {n: p.grad for n, p in model.bbox_head.named_parameters()},
        )
    expected, found = gradients
    assert set(found) == set(expected)
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key])
    # Both branches learn; a level without an object may have a scale that does not.
    assert all(value.any() for key, value in found.items() if 'convs' in key)
    assert all(
        p.grad is None for n, p in cached.named_parameters() if 'bbox_head' not in n
    )


def test_head_of_the_checkpoint_stays_at_no_step(stock):
    after = retrain(*stock, '--epochs', 1, '--no-flip', '--cfg-options', NO_STEP)
    before = load_checkpoint(stock[1])['state_dict']
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_fresh_head_starts_from_its_own_prior(stock, tmp_path):
    config = shrink(BALANCED, tmp_path)
    argv = ('--init', 'fresh', '--epochs', 1, '--no-flip', '--cfg-options', NO_STEP)
    after = retrain(config, stock[1], *argv)
    before = load_checkpoint(stock[1])['state_dict']
    for name, value in before.items():
        if name.startswith(FROZEN_PREFIXES):
            assert torch.equal(after[name], value), name
    # The config asks for a probability of 1/C at the start, of 22 classes.
    bias = after[f'{LAST_LAYER}bias']
    torch.testing.assert_close(bias, torch.full_like(bias, -math.log(21)))
    assert after[f'{LAST_LAYER}weight'].std() < 0.02
    assert before[f'{LAST_LAYER}weight'].std() > 0.1
    assert not torch.equal(
        after['bbox_head.cls_convs.0.conv.weight'],
        before['bbox_head.cls_convs.0.conv.weight'],
    )


def test_only_the_classifier_moves(stock):
    after = retrain(*stock, '--epochs', 1, '--no-flip', '--classifier-only')
    before = load_checkpoint(stock[1])['state_dict']
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved == {f'{LAST_LAYER}weight', f'{LAST_LAYER}bias'}


def test_tau_makes_the_norms_of_classes_equal(stock):
    after = retrain(*stock, '--tau', 1)[f'{LAST_LAYER}weight']
    before = load_checkpoint(stock[1])['state_dict'][f'{LAST_LAYER}weight']

    def norms(weight):
        # Channel a * C + c is class c of anchor a.
        return torch.stack([weight[c::22].norm() for c in range(22)])

    expected = norms(before).log().mean().exp().expand(22)
    torch.testing.assert_close(norms(after), expected, rtol=1e-5, atol=0)
    # The anchors of a class keep their proportions.
    torch.testing.assert_close(after[0] / after[22], before[0] / before[22])


def test_background_of_each_anchor_keeps_its_weights():
    weight = torch.randn(3 * 5, 7, 3, 3, dtype=torch.double)
    found = tau_normalised(weight, 4, 1.0, num_anchors=3)
    assert torch.equal(found[4::5], weight[4::5])
    norms = [weight[c::5].norm() for c in range(4)]
    for c in range(4):
        torch.testing.assert_close(
            found[c::5].norm(), torch.stack(norms).prod() ** 0.25
        )
    with pytest.raises(ValueError, match='12 or 15 rows'):
        tau_normalised(weight[1:], 4, 1.0, num_anchors=3)


def test_what_does_not_fit_another_head_starts_fresh(stock, tmp_path):
    state = load_checkpoint(stock[1])['state_dict']
    model = build(shrink(SOFTMAX, tmp_path))
    classifier = {f'{LAST_LAYER}weight', f'{LAST_LAYER}bias'}
    # The tree's inner nodes and the background are classes of their own.
    assert set(initialise(model, state, 'head')) == classifier
    same = build(stock[0])
    assert initialise(same, state, 'head') == []
    assert set(initialise(same, state, 'crt')) == classifier
    head = {name for name in state if name.startswith('bbox_head.')}
    assert set(initialise(same, state, 'fresh')) == head


def test_frozen_norm_layers_keep_their_statistics(stock, tmp_path):
    cfg = Config.fromfile(str(stock[0]))
    cfg.model.bbox_head.norm_cfg = dict(type='BN')
    for classifier_only in (False, True):
        changed = retraining_config(cfg, '', '', classifier_only).model
        model = MODELS.build(changed).train()
        norms = [m for m in model.bbox_head.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms
        assert all(norm.training is not classifier_only for norm in norms)
        assert last_layer(model).module.training
        assert not model.eval().bbox_head.retina_cls.training


def test_anchors_of_the_padding_are_those_of_the_host(stock):
    """Images of several sizes: the same ones count as inside as in the host."""
    cfg = Config.fromfile(str(stock[0]))
    model = MODELS.build(retraining_config(cfg, '', '', False).model)
    full = MODELS.build(cfg.model)
    sample = DATASETS.build(cfg.val_dataloader.dataset)[0]['data_samples']
    shapes = [(64, 40), (33, 96)]
    samples = [[sample.clone() for _ in shapes] for _ in range(2)]
    for sample, shape in zip([*samples[0], *samples[1]], shapes * 2, strict=True):
        sample.set_metainfo(dict(img_shape=shape))
    pixels = [torch.zeros(3, *shape) for shape in shapes]
    levels = [
        [level[0] for level in full.eval().extract_feat(torch.zeros(1, 3, h, w))]
        for h, w in ((64, 64), (64, 96))
    ]
    data = dict(inputs=pixels, data_samples=samples[0])
    host = full.data_preprocessor(data, True)
    data = dict(inputs=list(zip(*levels, strict=True)), data_samples=samples[1])
    found = model.data_preprocessor(data, True)
    stacked = found['inputs']
    together = full.extract_feat(host['inputs'])
    assert [level.shape for level in stacked] == [level.shape for level in together]
    pairs = zip(found['data_samples'], host['data_samples'], strict=True)
    for ours, theirs in pairs:
        assert ours.pad_shape == theirs.pad_shape
        assert ours.batch_input_shape == theirs.batch_input_shape
    # The smaller image is continued with zeros.
    assert not stacked[0][0, :, :, 8:].any()
    # So the losses of a batch are those of the host, given the same features.
    full.load_state_dict(model.state_dict())
    full.extract_feat = lambda images: stacked
    losses = model.loss(stacked, found['data_samples'])
    expected = full.loss(host['inputs'], host['data_samples'])
    assert torch.equal(
        *(torch.stack([*x['loss_cls'], *x['loss_bbox']]) for x in (losses, expected))
    )


def test_config_of_a_run_is_written_down_without_a_formatter(stock, monkeypatch):
    cfg = retraining_config(Config.fromfile(str(stock[0])), 'a', 'b', True)

    def fail(*args, **kwargs):
        raise RuntimeError('formatted')

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', fail)
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()
    assert cfg.filename == str(stock[0])


def test_detectors_with_ways_of_their_own_are_refused(stock):
    cfg = Config.fromfile(str(stock[0]))
    check_detector(cfg)
    for kind, head in (('FCOS', 'FCOSHead'), ('YOLACT', 'RetinaHead')):
        cfg.model.update(type=kind)
        cfg.model.bbox_head.type = head
        with pytest.raises(ValueError, match=kind):
            check_detector(cfg)
