"""Detectors of the host, stock but small, for tests of a loss or a head.

Each starts from the host's own config and only shrinks widths and counts, so that what
is tested is the wiring that users get. Deviations: none.
"""

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

#: Host config of each kind of detector.
DETECTORS = {
    'faster_rcnn': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'cascade_rcnn': 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    'retinanet': 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
}


def small_detector_cfg(kind: str, loss_cls: dict, num_classes: int) -> ConfigDict:
    """Model config of a stock detector with narrow layers and a loss of one's own.

    Args:
        kind: a key of `DETECTORS`.
        loss_cls: config of the classification loss of every bbox head.
        num_classes: number C of foreground classes.

    Returns:
        Config for `mmdet_imbalance.registry.MODELS.build`.
    """
    if kind not in DETECTORS:
        raise ValueError(f'`kind` must be one of {sorted(DETECTORS)}, got {kind!r}')
    init_default_scope('mmdet')
    model = get_config(DETECTORS[kind]).model
    model.backbone.update(depth=18, base_channels=4, init_cfg=None)
    model.backbone.update(norm_cfg=dict(type='BN', requires_grad=True))
    model.neck.update(in_channels=[4, 8, 16, 32], out_channels=8)
    if kind == 'retinanet':
        model.bbox_head.update(
            in_channels=8, feat_channels=8, stacked_convs=1, num_classes=num_classes
        )
        _replace_loss(model.bbox_head, loss_cls)
        model.test_cfg.update(nms_pre=100, max_per_img=20, score_thr=0.0)
        return model
    model.rpn_head.update(in_channels=8, feat_channels=8)
    model.roi_head.bbox_roi_extractor.update(out_channels=8)
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=8, fc_out_channels=16, num_classes=num_classes)
        _replace_loss(head, loss_cls)
    model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=30)
    rcnn = model.train_cfg.rcnn
    for cfg in rcnn if isinstance(rcnn, list) else [rcnn]:
        cfg.sampler.update(num=32)
    model.test_cfg.rpn.update(nms_pre=50, max_per_img=30)
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    return model


def _replace_loss(head: Config, loss_cls: dict) -> None:
    head.pop('loss_cls')
    head.loss_cls = ConfigDict(loss_cls)
