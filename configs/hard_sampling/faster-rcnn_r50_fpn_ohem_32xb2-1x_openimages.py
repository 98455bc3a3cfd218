_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# `pos_fraction` has no effect: the loss decides.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.TotalLossOHEMSampler',
                num=512,
                pos_fraction=0.25))))
