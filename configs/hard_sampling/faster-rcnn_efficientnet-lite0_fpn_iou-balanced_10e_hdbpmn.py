_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
# Three intervals, as Libra R-CNN.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.EqualIoUNegSampler',
                num=128,
                pos_fraction=0.25,
                num_bins=3))))
