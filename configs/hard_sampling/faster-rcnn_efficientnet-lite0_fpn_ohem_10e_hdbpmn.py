_base_ = '../hdbpmn/faster-rcnn_efficientnet-lite0_fpn_10e_hdbpmn.py'
# `pos_fraction` has no effect: the loss decides.
model = dict(
    train_cfg=dict(
        rcnn=dict(
            sampler=dict(
                _delete_=True,
                type='mmdet_imbalance.TotalLossOHEMSampler',
                num=128,
                pos_fraction=0.25))))
