"""tools/retrain_head.py: what is frozen stays, what is trained moves, figures agree."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmdet_imbalance.cli.runs import load_checkpoint
from mmdet_imbalance.core.feature_cache import FeatureCache
from mmdet_imbalance.engine.frozen_forward import FrozenForward
from mmdet_imbalance.engine.head_retraining import scale_epochs, set_flips
from mmdet_imbalance.engine.head_weights import FROZEN_PREFIXES, tau_normalised
from mmdet_imbalance.models.detectors.frozen_features import FeatureStacker
from tests.helpers.shrunken_configs import shrink
from tests.helpers.tools import load_tool

STOCK = 'hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
OTHER = (
    'hdbpmn/faster-rcnn_efficientnet-lite0_fpn_concurrent-softmax_soft-balance_'
    '10e_hdbpmn.py'
)

LAST_LAYER = 'roi_head.bbox_head.fc_cls.'


@pytest.fixture(scope='module')
def stock(tmp_path_factory) -> tuple[Path, Path]:
    """A shrunken stock config and a checkpoint of its untrained model."""
    from mmdet.registry import MODELS

    folder = tmp_path_factory.mktemp('stock')
    config = shrink(STOCK, folder)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(str(config)).model)
    model.init_weights()
    checkpoint = folder / 'stock.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return config, checkpoint


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMDET_IMBALANCE_TRACEBACK', raising=False)
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)
    )


def retrain(config: Path, checkpoint: Path, *argv: object) -> dict:
    """Row that the tool writes."""
    results = Path('rows.jsonl')
    args = [config, checkpoint, '--work-dir', 'run', '--results', results, *argv]
    tool = load_tool('retrain_head')
    assert tool.main([str(a) for a in args]) == 0
    return json.loads(results.read_text().splitlines()[-1])


def error_line(capsys, *argv: object) -> str:
    assert load_tool('retrain_head').main([str(a) for a in argv]) == 2
    (line,) = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith('error: ')
    ]
    return line


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)['state_dict']


def test_cached_features_equal_the_uncached_forward(stock, tmp_path):
    cfg = Config.fromfile(str(stock[0]))
    frozen = FrozenForward(cfg, weights(stock[1]), tmp_path)
    dataset = cfg.train_dataloader.dataset
    cache = FeatureCache(frozen.cache(dataset, training=True, flips=True))
    for probability in (0.0, 1.0):
        item = DATASETS.build(set_flips(dataset, probability))[1]
        sample = item['data_samples']
        image = (sample.img_path, probability == 1.0)
        with torch.no_grad():
            pixels = frozen.model.data_preprocessor(
                dict(inputs=[item['inputs']], data_samples=[sample]), False
            )
            levels = frozen.model.extract_feat(pixels['inputs'])
            (proposals,) = frozen.model.rpn_head.predict(
                levels, [sample], rescale=False
            )
        for found, expected in zip(cache.features(*image), levels, strict=True):
            torch.testing.assert_close(found.float(), expected[0], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(cache.proposals(*image)[:, :4], proposals.bboxes)
    plain, mirrored = (cache.features(image[0], flip)[0] for flip in (False, True))
    assert not torch.equal(plain, mirrored)


def test_only_the_head_moves_and_the_checkpoint_is_tested_alike(stock, tmp_path):
    config = shrink(OTHER, tmp_path)
    row = retrain(config, stock[1], '--epochs', 2, '--seed', 1)
    (path,) = Path('run').glob('*.pth')
    before, after = weights(stock[1]), weights(path)
    for name, value in after.items():
        if name.startswith(FROZEN_PREFIXES):
            assert torch.equal(value, before[name]), name
    for name in ('shared_fcs.0.weight', 'fc_reg.weight'):
        full = f'roi_head.bbox_head.{name}'
        assert not torch.equal(after[full], before[full]), name
    # More classes than the checkpoint: the ancestors were added.
    assert len(after[f'{LAST_LAYER}weight']) > len(before[f'{LAST_LAYER}weight'])

    test = [str(config), str(path), '--work-dir', 'test']
    assert load_tool('test').main(test) == 0
    (found,) = Path('test').glob('*/*.json')
    tested = json.loads(found.read_text())
    assert row['metrics']
    for name, value in row['metrics'].items():
        assert math.isclose(tested[name], value, abs_tol=2e-2), name


def test_seed_and_class_statistics_drive_the_run(stock):
    options = [
        'model.roi_head.bbox_head.loss_cls.type=mmdet_imbalance.ClassBalancedSoftmaxLoss',
        'model.roi_head.bbox_head.loss_cls.num_classes=22',
        'model.roi_head.bbox_head.loss_cls.beta=0.9',
    ]
    argv = ('--epochs', 1, '--no-flip', '--init', 'crt')

    def run(seed: int, *more: object) -> dict[str, torch.Tensor]:
        row = retrain(*stock, *argv, '--seed', seed, *more)
        assert row['seed'] == seed
        (path,) = Path('run').glob('*.pth')
        return weights(path)

    first, again, other = run(0), run(0), run(1)
    name = f'{LAST_LAYER}weight'
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    # A loss that needs statistics refuses to run without any: it got them.
    balanced = run(0, '--cfg-options', *options)
    assert not any('loss_cls' in key for key in first)
    assert any('loss_cls' in key for key in balanced)


def test_classifier_only_leaves_the_rest_of_the_head(stock):
    retrain(*stock, '--epochs', 1, '--classifier-only', '--no-flip')
    (path,) = Path('run').glob('*.pth')
    before, after = weights(stock[1]), weights(path)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved == {f'{LAST_LAYER}weight', f'{LAST_LAYER}bias'}


def test_cache_follows_the_content_of_the_checkpoint(stock, tmp_path):
    def caches() -> dict[str, int]:
        found = (tmp_path / 'cache').iterdir()
        return {path.name: (path / 'index.npz').stat().st_mtime_ns for path in found}

    argv = ('--tau', 0, '--cache-dir', tmp_path / 'cache')
    first = retrain(*stock, *argv)
    (one,) = caches().items()
    copy = tmp_path / 'copy.pth'
    copy.write_bytes(stock[1].read_bytes())
    assert retrain(stock[0], copy, *argv)['metrics'] == first['metrics']
    assert caches() == dict([one])
    content = load_checkpoint(stock[1])
    content['state_dict']['neck.fpn_convs.0.conv.weight'] *= 1.01
    torch.save(content, copy)
    retrain(stock[0], copy, *argv)
    assert len(caches()) == 2
    # The head is no part of the key: every head is trained on the same features.
    content['state_dict'][f'{LAST_LAYER}bias'] += 1
    torch.save(content, copy)
    retrain(stock[0], copy, *argv)
    assert len(caches()) == 2


def test_padding_of_a_batch_is_no_border_for_a_smaller_image():
    from mmcv.ops import roi_align

    stacker = FeatureStacker()
    small, big = torch.rand(2, 5, 6), torch.rand(2, 9, 11)
    data = dict(inputs=[[small, big]], data_samples=[])
    (batch,) = stacker(data)['inputs']
    rois = torch.tensor([[0.0, 1, 1, 6, 5]])
    alone = roi_align(small[None], rois, (7, 7), 1.0, 0, 'avg', True)
    stacked = roi_align(batch, rois, (7, 7), 1.0, 0, 'avg', True)
    torch.testing.assert_close(stacked, alone)


@pytest.mark.parametrize('num_rows', [4, 5])
def test_tau_normalisation(num_rows):
    weight = torch.randn(num_rows, 7, dtype=torch.double)
    norms = weight[:4].norm(dim=1)
    mean = norms.prod() ** 0.25
    torch.testing.assert_close(tau_normalised(weight, 4, 0.0), weight)
    equal = tau_normalised(weight, 4, 1.0)
    torch.testing.assert_close(equal[:4].norm(dim=1), mean.expand(4))
    half = tau_normalised(weight, 4, 0.5)
    torch.testing.assert_close(
        half[:4].norm(dim=1), (norms * mean).sqrt(), rtol=1e-9, atol=0
    )
    assert torch.equal(half[4:], weight[4:])
    with pytest.raises(ValueError, match='rows'):
        tau_normalised(weight, 9, 0.5)


def test_schedules_are_squeezed_into_the_epochs():
    cfg = Config(
        dict(
            train_cfg=dict(max_epochs=10),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, end=50),
                dict(type='CosineAnnealingLR', T_max=10, end=10, by_epoch=True),
                dict(type='MultiStepLR', milestones=[6, 8]),
            ],
            train_dataloader=dict(
                sampler=dict(type='SoftBalanceSampler', schedule=[(0, 0.0), (5, 0.7)])
            ),
        )
    )
    scale_epochs(cfg, 4)
    assert cfg.train_cfg.max_epochs == 4
    warm_up, cosine, steps = cfg.param_scheduler
    assert warm_up.end == 50
    assert (cosine.T_max, cosine.end) == (4, 4)
    assert steps.milestones == [2, 3]
    schedule = cfg.train_dataloader.sampler.schedule
    assert [tuple(point) for point in schedule] == [(0, 0.0), (2, 0.7)]


def test_wrong_input_is_one_line(stock, tmp_path, capsys):
    config, checkpoint = stock
    options = ('--cfg-options', 'model.type=MaskRCNN')
    assert 'MaskRCNN' in error_line(capsys, config, checkpoint, *options)
    content = load_checkpoint(checkpoint)
    content['state_dict']['backbone.conv1.weight'] = torch.zeros(4, 3, 7, 7)
    other = tmp_path / 'other.pth'
    torch.save(content, other)
    line = error_line(capsys, config, other, '--cache-dir', tmp_path / 'cache')
    assert 'another architecture' in line
    assert 'backbone.conv1.weight' in line
    options = ('--cfg-options', 'train_dataloader.dataset.pipeline.3.type=RandomShift')
    assert 'RandomShift' in error_line(capsys, config, checkpoint, *options)
    assert '--tau' in error_line(capsys, config, checkpoint, '--tau', 1, '--epochs', 2)
    assert '--epochs' in error_line(capsys, config, checkpoint, '--epochs', 0)
