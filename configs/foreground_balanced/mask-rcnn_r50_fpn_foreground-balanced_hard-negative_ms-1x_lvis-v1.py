_base_ = './mask-rcnn_r50_fpn_foreground-balanced_ms-1x_lvis-v1.py'
# With hard negatives: the only published figure of the method has them.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                neg_sampler=dict(
                    _delete_=True,
                    type='mmdet_imbalance.HardNegativeSampler')))))
