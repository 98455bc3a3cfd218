_base_ = './faster-rcnn_efficientnet-lite0_fpn_foreground-balanced_10e_aquarium.py'
# With hard negatives: the only published figure of the method has them.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                neg_sampler=dict(
                    _delete_=True,
                    type='mmdet_imbalance.HardNegativeSampler')))))
