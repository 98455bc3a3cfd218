"""tools/plot_prototypes.py on a tiny two-stage run."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmdet_imbalance.engine.roi_embeddings import (
    classifier_of,
    prototypes_of,
    roi_embeddings,
)
from tests.helpers.tiny_run import CLASSES, write_config, write_data
from tests.helpers.tools import load_tool

TWO_STAGES = """
model = dict(
    _delete_=True,
    type='FasterRCNN',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, num_stages=4, norm_eval=False,
        out_indices=(0, 1, 2, 3), frozen_stages=-1),
    neck=dict(
        type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5),
    rpn_head=dict(
        type='RPNHead', in_channels=8, feat_channels=8,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0],
            strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss')),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=3, sampling_ratio=0),
            out_channels=8, featmap_strides=[4, 8, 16, 32]),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=8, fc_out_channels=16,
            roi_feat_size=3, num_classes=3,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            {classifier}
            loss_bbox=dict(type='L1Loss'))),
    train_cfg=None,
    test_cfg=dict(
        rpn=dict(nms_pre=50, max_per_img=20, min_bbox_size=0,
                 nms=dict(type='nms', iou_threshold=0.7)),
        rcnn=dict(score_thr=0.0, max_per_img=20,
                  nms=dict(type='nms', iou_threshold=0.5))))
"""
AFFINITY = """cls_predictor_cfg=dict(
                type='mmdet_imbalance.AffinityPredictor', embed_dims=4,
                num_prototypes=2, num_bg_prototypes=3),
            loss_cls=dict(type='mmdet_imbalance.AffinityLoss', num_classes=3),"""
STOCK = "loss_cls=dict(type='CrossEntropyLoss'),"


def make(folder, classifier):
    """Config and checkpoint of an untrained detector."""
    folder.mkdir()
    extra = TWO_STAGES.replace('{classifier}', classifier)
    config = write_config(folder, write_data(folder / 'data'), extra)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    return config, folder / 'model.pth', model.eval()


@pytest.fixture(scope='module')
def affinity(tmp_path_factory):
    return make(tmp_path_factory.mktemp('affinity') / 'run', AFFINITY)


def test_pictures_and_figures_are_written(affinity, tmp_path, capsys):
    config, checkpoint, _ = affinity
    out = tmp_path / 'pictures'
    argv = [str(config), str(checkpoint), '--out', str(out), '--device', 'cpu']
    assert load_tool('plot_prototypes').main(argv) == 0
    printed = capsys.readouterr().out
    table = (out / 'clusters.md').read_text()
    assert table.strip() in printed
    for name in CLASSES:
        # Four images with one object of each class.
        assert f'| {name} | - | 4 |' in table
    assert 'prototype distances: relative spread: ' in table
    for name in ('distance_matrix', 'distance_histogram', 'cluster_projection'):
        assert (out / f'{name}.png').read_bytes().startswith(b'\x89PNG')


def test_embeddings_are_what_the_head_compares(affinity):
    config, _, model = affinity
    dataset = DATASETS.build(Config.fromfile(config).val_dataloader.dataset)
    embeddings, labels = roi_embeddings(model, dataset, 2)
    assert embeddings.shape == (len(labels), 4)
    assert np.bincount(labels).tolist()[:3] == [4, 4, 4]
    assert (labels == 3).sum() <= 8
    # The head's own forward on the box of the file, scaled to the image.
    item = dataset[1]
    data = model.data_preprocessor(
        dict(inputs=[item['inputs']], data_samples=[item['data_samples']]), False
    )
    instance = dataset.get_data_info(1)['instances'][2]
    scale = torch.tensor(item['data_samples'].scale_factor).repeat(2)
    roi = torch.cat([torch.zeros(1), torch.tensor(instance['bbox']) * scale])
    with torch.no_grad():
        found = model.roi_head._bbox_forward(
            model.extract_feat(data['inputs']), roi[None]
        )
    first = labels.tolist().index(0, 1)
    prototypes, owners = prototypes_of(model, 3)
    assert owners.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    distance = np.square(embeddings[first + 2] - prototypes).sum(axis=1)
    similarity = np.exp(-distance / 4.0)
    best = [similarity[owners == c].max() for c in range(4)]
    np.testing.assert_allclose(found['cls_score'][0, :4].numpy(), best, atol=1e-5)


def test_a_stock_head_has_the_rows_of_its_classifier(tmp_path):
    config, _, model = make(tmp_path / 'stock', STOCK)
    prototypes, owners = prototypes_of(model, 3)
    np.testing.assert_allclose(
        prototypes, model.roi_head.bbox_head.fc_cls.weight.detach().numpy()
    )
    assert owners.tolist() == [0, 1, 2, 3]
    dataset = DATASETS.build(Config.fromfile(config).val_dataloader.dataset)
    embeddings, labels = roi_embeddings(model, dataset, 0)
    assert embeddings.shape == (12, 16)
    assert labels.max() == 2


def test_bad_input_is_one_line(affinity, tmp_path, capsys):
    config, checkpoint, _ = affinity
    main = load_tool('plot_prototypes').main
    argv = ['--out', str(tmp_path), '--device', 'cpu']
    dense = write_config(tmp_path, config.parent / 'data')
    assert main([str(dense), str(checkpoint), *argv]) == 2
    assert 'checkpoint is not of this config' in capsys.readouterr().err
    argv += ['--background-per-image', '-1']
    assert main([str(config), str(checkpoint), *argv]) == 2
    assert 'must not be negative' in capsys.readouterr().err
    with pytest.raises(ValueError, match='no single box head'):
        classifier_of(torch.nn.Linear(2, 2))
