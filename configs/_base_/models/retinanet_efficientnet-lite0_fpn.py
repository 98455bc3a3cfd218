# RetinaNet that trains on two CPU cores: the host's, with a small pretrained
# backbone, a thin neck and two convolutions in each tower.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

neck_channels = 64

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
    neck=dict(
        in_channels=[40, 112, 320],
        out_channels=neck_channels,
        norm_cfg=dict(type='GN', num_groups=8),
        start_level=0,
        num_outs=4),
    bbox_head=dict(
        in_channels=neck_channels,
        feat_channels=neck_channels,
        stacked_convs=2,
        # The host's initial weights fit 256 channels; 64 of them would shrink the
        # features fourfold at every convolution.
        norm_cfg=dict(type='GN', num_groups=8),
        # Smallest anchor 16 px: half of the host's, objects are small.
        anchor_generator=dict(octave_base_scale=2, strides=[8, 16, 32, 64])),
    # Every label of an object takes one of the places: three times the host's 100.
    test_cfg=dict(nms_pre=600, score_thr=0.01, max_per_img=300))
