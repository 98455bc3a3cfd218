_base_ = 'mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py'
# `pos_fraction` has no effect: the loss decides.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.TotalLossOHEMSampler',
                num=512,
                pos_fraction=0.25))))
