# Faster R-CNN for pictures of 128 px that trains from scratch in minutes on CPU: a
# quarter of ResNet-18's channels, strides 8 and 16, few proposals.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

neck_channels = 64
strides = [8, 16]

model = dict(
    data_preprocessor=dict(mean=[127, 127, 127], std=[64, 64, 64]),
    backbone=dict(
        depth=18,
        base_channels=16,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(1, 2),
        frozen_stages=-1,
        # Batch statistics: there are no others when training from scratch.
        norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[32, 64], out_channels=neck_channels, num_outs=2),
    rpn_head=dict(
        in_channels=neck_channels,
        feat_channels=neck_channels,
        # Anchors of 24 and 48 px: glyphs are 16 to 40 px.
        anchor_generator=dict(
            scales=[3], ratios=[0.6, 1.0, 1.6], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(
            # RoIAlign is half of a step on CPU, and its cost is its samples.
            roi_layer=dict(sampling_ratio=1),
            out_channels=neck_channels,
            featmap_strides=strides,
            finest_scale=28),
        bbox_head=dict(
            in_channels=neck_channels,
            fc_out_channels=256,
            # All labels of an object share its box.
            reg_class_agnostic=True)),
    train_cfg=dict(
        rpn=dict(assigner=dict(pos_iou_thr=0.6), sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=60),
        rcnn=dict(sampler=dict(num=40, pos_fraction=0.5))),
    test_cfg=dict(
        rpn=dict(nms_pre=300, max_per_img=50),
        # A low threshold and many places, because AP is about ranking: the default
        # 0.05 would silence the labels of an object that share its probability.
        rcnn=dict(score_thr=0.001, max_per_img=300)))
