_base_ = 'mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py'
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
