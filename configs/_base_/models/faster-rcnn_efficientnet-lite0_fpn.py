# Faster R-CNN that trains on two CPU cores: the host's, with a small pretrained
# backbone, a thin neck without the stride-4 level and a small box head.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

neck_channels = 64
strides = [8, 16, 32, 64]
num_proposals = 300

model = dict(
    data_preprocessor=dict(mean=[127, 127, 127], std=[128, 128, 128]),
    backbone=dict(
        _delete_=True,
        type='mmdet_imbalance.EfficientNetLite',
        out_indices=(2, 3, 4),
        frozen_stages=2,
        norm_eval=True,
        norm_cfg=dict(type='BN', eps=1e-3, requires_grad=False),
        channels_last=True),
    # Features of the backbone reach 80: a norm keeps the heads in reach of one step.
    neck=dict(
        in_channels=[40, 112, 320],
        out_channels=neck_channels,
        norm_cfg=dict(type='GN', num_groups=8),
        num_outs=4),
    rpn_head=dict(
        in_channels=neck_channels,
        feat_channels=neck_channels,
        # Two scales an octave and a half apart: 16 px is the smallest anchor.
        anchor_generator=dict(scales=[2, 3], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=neck_channels,
            featmap_strides=strides,
            # Half of the host's 56: the finest level has stride 8, objects are small.
            finest_scale=28),
        bbox_head=dict(
            in_channels=neck_channels,
            fc_out_channels=512,
            # An object's labels share its box: with class-wise boxes those of an
            # ancestor class that is never annotated itself would not be trained.
            reg_class_agnostic=True)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=600, max_per_img=num_proposals),
        rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(
        rpn=dict(nms_pre=600, max_per_img=num_proposals),
        # Every label of an object takes one of the places: three times the host's 100.
        rcnn=dict(score_thr=0.01, max_per_img=300)))
