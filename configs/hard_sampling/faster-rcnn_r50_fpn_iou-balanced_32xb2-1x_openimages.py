_base_ = 'mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py'
# Three intervals, as Libra R-CNN.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.EqualIoUNegSampler',
                num=512,
                pos_fraction=0.25,
                num_bins=3))))
